"""Compiled kernels do not outlive their sources."""

import os
from pathlib import Path

from gpu.cpu.stale import remove_stale


def _file(path: Path, age: float) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_a_kernel_older_than_any_source_goes(tmp_path: Path) -> None:
    _file(tmp_path / "kernel.py", age=30)
    _file(tmp_path / "inlined.py", age=10)
    old = _file(tmp_path / "__pycache__" / "kernel.f.nbi", age=20)
    new = _file(tmp_path / "__pycache__" / "other.g.nbi", age=5)
    other = _file(tmp_path / "__pycache__" / "kernel.cpython-311.pyc", age=20)
    assert remove_stale(tmp_path) == [old]
    assert not old.exists()
    assert new.exists()
    assert other.exists()


def test_a_folder_without_compiled_kernels_is_left(tmp_path: Path) -> None:
    _file(tmp_path / "kernel.py", age=30)
    assert remove_stale(tmp_path) == []
