"""Compiled kernels do not outlive their sources."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpu.cpu import kernel_cache
from gpu.cpu.kernel_cache import digest

KERNEL = """
import numba
from gpu.cpu.inlined import added

@numba.njit(numba.int64(numba.int64), cache=True)
def kernel(x):
    return added(x)

print(kernel(1), sum(kernel.stats.cache_hits.values()), kernel.stats.cache_path)
"""
INLINED = """
import numba

@numba.njit(inline="always")
def added(x):
    return x + {}
"""


def _written(path: Path, text: str) -> None:
    """Another content that looks as old as any."""
    path.write_text(text)
    os.utime(path, (1e9, 1e9))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with the same name, of one kernel."""
    folder = tmp_path / "src" / "gpu" / "cpu"
    folder.mkdir(parents=True)
    source = Path(kernel_cache.__file__).parent
    for name in ("__init__.py", "kernel_cache.py"):
        shutil.copy(source / name, folder)
    (folder.parent / "__init__.py").touch()
    _written(folder / "kernel.py", KERNEL)
    return folder


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_kernel_is_compiled_anew_when_another_source_changes(package, tmp_path, elsewhere):
    kept = tmp_path / "kept" if elsewhere else package / "__pycache__"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
    if elsewhere:
        environment["NUMBA_CACHE_DIR"] = str(kept)

    def run(addend: int) -> tuple[int, int]:
        _written(package / "inlined.py", INLINED.format(addend))
        command = [sys.executable, "-c", "import gpu.cpu.kernel"]
        done = subprocess.run(
            command, check=True, capture_output=True, cwd=package.parents[1], env=environment
        )
        result, hits, path = done.stdout.decode().split()
        assert Path(path).is_relative_to(kept)
        return int(result), int(hits)

    assert run(10) == (11, 0)
    assert run(10) == (11, 1)
    assert run(20) == (21, 0)


def test_the_digest_is_of_every_name_and_content(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        _written(tmp_path / name, name)
    before = digest(tmp_path)
    _written(tmp_path / "c.txt", "no source")
    assert digest(tmp_path) == before
    _written(tmp_path / "a.py", "A.py")
    changed = digest(tmp_path)
    (tmp_path / "b.py").rename(tmp_path / "d.py")
    assert len({before, changed, digest(tmp_path)}) == 3


def test_all_kernels_of_a_layer_are_compiled_when_it_is_imported() -> None:
    """What `liftquant bench generate` does before it looks at time and memory."""
    code = """
import sys
import gpu.cpu.layer
from numba.core.dispatcher import Dispatcher
modules = [module for name, module in sys.modules.items() if name.startswith("gpu.cpu.")]
found = {f for m in modules for f in vars(m).values() if isinstance(f, Dispatcher)}
kept = {f.__name__: f.signatures for f in found if f.stats.cache_path}
assert {"_turn", "_transpose", "decode"} <= kept.keys(), kept
inner = {"finish", "prepare_all", "_both"}  # which kernels alone call: read with these
assert {name for name, signatures in kept.items() if not signatures} <= inner, kept
"""
    subprocess.run([sys.executable, "-c", code], check=True)
