"""``liftquant rtl synth`` as a user meets it."""

import json
import re
from pathlib import Path

import pytest

from algo.code import write_definition
from algo.shipped import shipped_codes
from liftquant.cli import run
from tests.cases import random_code
from tests.hw.streams import TINY


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = run(["rtl", "synth", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_codes_peers_and_whole_decoders_in_one_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hw.peers.PEERS", (TINY,))
    monkeypatch.chdir(tmp_path)
    code = random_code(2, 1, 2, seed=1)
    write_definition(code, Path("narrow.json"), {"mse": {"value": 0.09, "standard_error": 0.001}})
    arguments = (
        "narrow.json", "--architecture", "tables:4", "--lanes", 1, "--peers", "--whole",
        "--weights", 9, "--seeds", 1, "--out", "costs",
    )  # fmt: skip
    status, out, err = answer(capsys, *arguments, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found == json.loads(Path("costs/costs.json").read_text())
    assert [(d["name"], d["unit"], d["source"]) for d in found["designs"]] == [
        ("narrow", "projection", "ours"),
        ("narrow", "decoder", "ours"),
        ("TINY", "projection", "a test"),
    ]
    assert all(d["check"]["beats"] > 0 and d["mhz"] > 0 for d in found["designs"])
    projection, decoder, _ = found["designs"]
    assert projection["mse"] == 0.09
    assert projection["lut"] < decoder["lut"]
    assert found["seeds"] == [1]
    cached = sorted(p.name for p in Path("costs/cache").iterdir())
    assert {p.name for p in Path("costs").iterdir()} == {
        "cache", "costs.json", "costs.md", "pareto.svg", "pareto.png",
    }  # fmt: skip

    # the same again runs no tool at all
    monkeypatch.setattr("hw.synthesis.run_yosys", None)
    monkeypatch.setattr("hw.place.subprocess.run", None)
    status, out, err = answer(capsys, *arguments)
    assert status == 0, err
    assert json.loads(Path("costs/costs.json").read_text()) == found
    assert sorted(p.name for p in Path("costs/cache").iterdir()) == cached
    assert re.search(r"narrow +tables:4 +1 ", out)
    assert "whole decoders" in out
    assert "3 designs; 3 mapped netlists ran as their Verilog does, 0 have" in " ".join(err.split())


def test_lanes_make_beats_of_eight_weights_unless_given() -> None:
    from liftquant.rtl_synth_command import ARCHITECTURES, CODES, _designs, _lanes

    assert [_lanes(weights) for weights in (1, 2, 5, 8, 10)] == [
        [1, 8], [1, 4], [1, 2], [1], [1],
    ]  # fmt: skip
    assert set(CODES) <= set(shipped_codes())
    found = _designs(list(CODES), list(ARCHITECTURES), [], None)
    assert len({design.label for design in found}) == len(found) == 66
    assert all(design.unit == "projection" for design in found)
    assert _designs(["LQ-16/8", "LQ-16/8"], ["tree"], [2, 2], 99)[1].unit == "decoder"
    assert len(_designs(["LQ-16/8", "LQ-16/8"], ["tree"], [2, 2], 99)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("LQ-2/1+7",), r"no code LQ-2/1\+7 is shipped"),
        (("nothing.json",), r"nothing\.json does not exist"),
        (("LQ-2/1+6", "--architecture", "rom"), "architecture 'rom' is unknown"),
        (("LQ-2/1+6", "--lanes", 0), "lanes=0: a beat decodes at least one group"),
        (("LQ-2/1+6", "--whole", "--weights", 3), "too narrow for LQ-2/1"),
        (("LQ-2/1+6", "--whole", "--weights", 9, "--lanes", 10), "lanes=10 is more than groups=9"),
        (("LQ-2/1+6", "--seeds", -1), "Invalid value for '--seeds'"),
        (("LQ-2/1+6", "--out", "FILE"), "is a file; give a directory"),
    ],
)
def test_bad_input_is_one_message(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    status, _, err = answer(capsys, *arguments)
    assert status == 2
    assert re.search(message, " ".join(err.split())), err
    assert "Traceback" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["FILE"]


def test_a_tool_that_fails_is_one_message(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hw.yosys.importlib.util.find_spec", lambda name: None)
    status, _, err = answer(
        capsys, "LQ-2/1+6", "--architecture", "tree", "--lanes", 1, "--out", tmp_path
    )
    assert status == 2
    assert "LQ-2/1+6 projection tree, lanes 1: yosys is missing; pip install" in " ".join(
        err.split()
    )
