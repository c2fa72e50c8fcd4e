from pathlib import Path

import pytest
import torch

from algo.errors import LiftError
from algo.source import open_source
from algo.text import calibration_text, evaluation_text
from liftquant.corpora import read_text
from liftquant.texts import calibration_windows


def test_file_is_cut_into_windows(reading_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("abcdefghij")
    source = open_source(str(reading_llama))
    windows = calibration_windows(source, str(tmp_path / "t.txt"), 3, 100)
    assert windows.tolist() == [[65, 66, 67], [68, 69, 70], [71, 72, 73]]  # ord - 32, 'j' dropped
    assert len(calibration_windows(source, str(tmp_path / "t.txt"), 3, 7)) == 2


def test_builtin_text_is_not_the_one_evaluated_on(reading_llama: Path) -> None:
    windows = calibration_windows(open_source(str(reading_llama)), "builtin", 64, 640)
    assert windows.shape == (10, 64)
    assert windows.dtype == torch.int64
    ids = windows.flatten().tolist()
    shown = "".join(chr(i + 32) if i < 95 else "\0" for i in ids)
    expected = calibration_text()[: len(ids)]
    assert all(a in (b, "\0") for a, b in zip(shown, expected, strict=True))
    assert expected not in evaluation_text()


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(LiftError, match=r"--text .*none cannot be read as UTF-8 text: .*No such"):
        read_text(tmp_path / "none", "--text")
    with pytest.raises(LiftError, match=r"--calib .*b cannot be read as UTF-8 text: .*codec"):
        read_text(tmp_path / "b", "--calib")
    with pytest.raises(LiftError, match="cannot be read"):
        read_text(tmp_path, "--calib")
    (tmp_path / "c").write_text("naïve")
    assert read_text(tmp_path / "c", "--calib") == "naïve"
