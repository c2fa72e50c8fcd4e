"""``liftquant rtl mutate`` and ``liftquant rtl faults`` as a user meets them."""

import json
from pathlib import Path

import numpy as np
import pytest

from hw.equivalence import Equivalence
from hw.geometry import Geometry
from liftquant.cli import run
from sim import faults, mutation
from sim.decoder_passes import DecoderPass, Weakening, decoder_passes


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = run(["rtl", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


SMALL = ("--weights", 12, "--seed", 1)


def test_mutants_are_counted_and_reported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "mutants.json"
    status, out, _ = answer(
        capsys, "mutate", *SMALL, "--mutants", 25, "--report", file, "--json"
    )  # fmt: skip
    result = json.loads(out)
    assert status == 0
    assert result == json.loads(file.read_text())
    assert (result["code"], result["groups"], result["lanes"]) == ("LQ-2/1+6", 12, 1)
    assert result["mutants"] == len(result["verdicts"]) == 25
    assert result["killed"] == sum(result["killed_by"].values()) > 10
    assert result["score"] >= 99
    for verdict in result["verdicts"]:
        assert (verdict["finding"] is not None) == (verdict["outcome"] == "killed")
        assert (verdict["proof"] is not None) == (verdict["outcome"] == "equivalent")


def few_passes(geometry: Geometry, seed: int, without: Weakening) -> list[DecoderPass]:
    return decoder_passes(geometry, seed, without)[:2]


def test_survivors_are_listed_and_gate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for attempt in ("same_step", "same"):
        monkeypatch.setattr(Equivalence, attempt, lambda self, mutant: None)
    monkeypatch.setattr(mutation, "decoder_passes", few_passes)
    status, out, _ = answer(capsys, "mutate", *SMALL, "--mutants", 10)
    assert status == 1
    assert "SURVIVOR" in out
    assert "of cell $" in out
    assert "0 survived" not in out
    assert answer(capsys, "mutate", *SMALL, "--mutants", 10, "--at-least", 10)[0] == 0


def test_faults_are_counted_and_reported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "faults.json"
    status, out, _ = answer(capsys, "faults", *SMALL, "--faults", 30, "--report", file, "--json")
    result = json.loads(out)
    assert status == 0
    assert result == json.loads(file.read_text())
    assert result["passed"]
    assert {kind: sum(n.values()) for kind, n in result["counts"].items()} == {
        "stream": 10, "data": 10, "control": 10,
    }  # fmt: skip
    status, out, _ = answer(capsys, "faults", *SMALL, "--faults", 30)
    assert status == 0
    assert "30 of 30 faults as they must be" in out


def test_a_fault_past_its_bound_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "flip_effect", lambda code, bits, at: np.zeros(12, np.int64))
    status, out, _ = answer(capsys, "faults", *SMALL, "--faults", 9)
    assert status == 1
    assert "WRONG, past its bound" in out
    assert "bit" in out


@pytest.mark.parametrize("command", ["mutate", "faults"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("LQ-9/9+9",), "LQ-9/9"),
        (("--lanes", 90), "lanes=90 is more than groups=12"),
        (("--architecture", "sieve"), "architecture 'sieve' is unknown"),
    ],
)
def test_what_cannot_be_tried_is_said(
    capsys: pytest.CaptureFixture[str], command: str, options: tuple[object, ...], message: str
) -> None:
    status, out, err = answer(capsys, command, *options, "--weights", 12)
    assert (status, out) == (2, "")
    assert message in err
