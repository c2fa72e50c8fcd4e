import json
from pathlib import Path

import numpy as np
import pytest

from algo.code import LiftCode
from algo.shipped import read_code
from liftquant.cli import run

QUICK = ["--starts", "2", "--bred", "2", "--weights", "512", "--measured", "5000"]


def learn(path: Path, lifted: int, group: int, window: int, *more: str) -> int:
    shape = ["--lifted", str(lifted), "--group", str(group), "--window", str(window)]
    return run(["codes", "learn", str(path), *shape, *QUICK, *more])


def test_parities_and_taps_width_are_obeyed_and_recorded(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    assert learn(file, 2, 1, 6, "--parities", "3", "--taps-bits", "5") == 0
    shipped = read_code(file)
    assert shipped.code.name == "LQ-2/1+4^3"
    assert np.abs(shipped.code.taps).max() <= 15
    assert "--window 6 --parities 3 --taps-bits 5" in shipped.record["learned"]["command"]


def test_masks_may_be_given(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    assert learn(file, 2, 1, 6, "--parities", "0x3,0x15") == 0
    assert read_code(file).code.parities == (0x3, 0x15)


def test_cells_are_obeyed_and_recorded(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    assert learn(file, 2, 1, 6, "--cells", "2") == 0
    shipped = read_code(file)
    assert shipped.code.name == "LQ-2/1+4^2:2"
    assert shipped.code.parities == (0b010101, 0b101010)
    assert "--window 6 --cells 2 " in shipped.record["learned"]["command"]


def test_learning_begins_with_another_rate(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert learn(first, 2, 1, 6, "--parities", "2") == 0
    begin = ["--parities", "2", "--begin", str(first), "--starts", "0"]
    assert learn(second, 5, 2, 6, *begin) == 0
    learned = read_code(second).record["learned"]
    assert learned["begin"] == {"LQ-2/1+4^2": read_code(first).code.sha256}
    assert "--begin LQ-2/1+4^2" in learned["command"]


def test_learning_begins_with_other_parities_of_the_rate(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert learn(first, 2, 1, 6, "--parities", "2") == 0
    begin = ["--parities", "4", "--begin", str(first), "--starts", "0"]
    assert learn(second, 2, 1, 6, *begin) == 0
    assert read_code(second).code.name == "LQ-2/1+4^4"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--parities", "many"], "--parities many: give a number, or hexadecimal masks"),
        (["--parities", "0x3,0xq"], "--parities 0x3,0xq: give a number, or hexadecimal masks"),
        (["--parities", "0x40"], "parity mask 0x40 must name two or more of the 6 window bits"),
        (["--cells", "3"], "3 cells: a window of 6 bits has 1 to 2"),
        (["--cells", "2", "--parities", "1"], "--cells chooses the parities itself"),
        (["--starts", "0"], "nothing to learn from"),
        (["--begin", "LQ-2/1+10"], "LQ-2/1+10 has 12 window bits and 0 parities"),
        (["--begin", "LQ-2/1+6^8"], "and of its own parities where the rate is another"),
    ],
)
def test_what_cannot_be_learned_is_refused(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.json"
    assert learn(file, 2, 1, 6, *more) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_widths_are_tabulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.json"
    assert learn(file, 2, 1, 6, "--parities", "2") == 0
    quick = ["--bred", "1", "--measured", "5000"]
    assert run(["codes", "widths", str(file), "--json", *quick]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["taps_bits"] for row in rows] == [4, 5, 6, 7, 8]
    for row in rows:
        code = LiftCode.from_definition(row["definition"])
        assert code.parities == read_code(file).code.parities
        assert np.abs(code.taps).max() < 1 << (row["taps_bits"] - 1)
        assert 0 < row["standard_error"] < row["mse"] < 0.2
    assert run(["codes", "widths", str(file), *quick]) == 0
    assert "taps trained at each width" in capsys.readouterr().out
