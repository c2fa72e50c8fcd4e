"""``liftquant rtl prove`` as a user meets it."""

import json
import re
from pathlib import Path

import pytest

from liftquant.cli import run


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = run(["rtl", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_code_is_proved(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    status, out, _ = answer(
        capsys, "prove", "LQ-2/1+6", "--weights", 33, "--lanes", 2, "--report", file, "--json"
    )
    result = json.loads(out)
    assert status == 0
    assert result == json.loads(file.read_text())
    assert result["refuted"] == 0
    (decoder,) = result["decoders"]
    assert (decoder["code"], decoder["groups"], decoder["lanes"]) == ("LQ-2/1+6", 33, 2)
    assert decoder["outcome"] == "proved"
    assert [p["claim"] for p in decoder["proofs"]] == [
        "sums", "pipeline", "chain", "gearbox", "window", "wiring", "paths",
    ]  # fmt: skip
    assert all(p["outcome"] == "proved" and p["seconds"] >= 0 for p in decoder["proofs"])
    assert decoder["proofs"][0]["nodes"] > 0


def test_an_altered_export_is_refuted_with_a_window(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert answer(capsys, "export", "LQ-2/1+6", tmp_path, "--weights", 12)[0] == 0
    file = tmp_path / "liftquant_decoder.v"
    verilog = file.read_text()
    # one entry of a table of partial sums: its lowest bit
    first = re.search(r"(9'h[0-9a-f]{2})([0-9a-f]);", verilog[verilog.index("casez") :])
    assert first is not None
    text, count = re.subn(
        re.escape(first[0]), f"{first[1]}{int(first[2], 16) ^ 1:x};", verilog, count=1
    )
    assert count == 1
    file.write_text(text)
    status, out, _ = answer(capsys, "prove", "--exported", file)
    assert status == 1
    found = re.search(r"sums refuted: lane 0, weight 0, window bits ([01]{8}) .*: (.*)", out)
    assert found is not None, out
    expected, got = map(int, re.findall(r"-?\d+", found[2]))
    assert abs(expected - got) == 2  # tables hold halves
    assert "0 proved, 0 in part only up to a bound, 1 refuted." in out


@pytest.mark.parametrize(
    "options",
    [
        ("--architecture", "tree,levels=2"),
        ("--architecture", "shared:3,flow=credit", "--lanes", 2, "--mark-last"),
        ("--width", 8),
        ("--scale", "in:6:7", "--width", 9),
    ],
)
def test_others_are_proved_as_exported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: tuple[object, ...]
) -> None:
    assert answer(capsys, "export", "LQ-2/1+6", tmp_path, "--weights", 12, *options)[0] == 0
    status, out, err = answer(capsys, "prove", "--exported", tmp_path / "liftquant_decoder.v")
    assert (status, "1 proved" in out) == (0, True), out + err


def test_the_decoder_asked_for_is_the_one_proved(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ("--architecture", "shared:2", "--width", 9, "--weights", 12)
    status, out, _ = answer(capsys, "prove", "LQ-2/1+6", *chosen, "--json")
    (decoder,) = json.loads(out)["decoders"]
    assert status == 0
    assert decoder["architecture"] == "shared:2"
    assert decoder["output"] == {"width": 9, "scale": None}
    assert [p["claim"] for p in decoder["proofs"]] == [
        "sums", "pipeline", "steps", "chain", "output", "gearbox", "window", "wiring", "paths",
    ]  # fmt: skip


def test_a_bound_is_stated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hw.formal_output.WHOLE_MULTIPLIERS", 3)
    monkeypatch.setattr("hw.formal_output._PART", 2)
    chosen = ("--weights", 12, "--scale", "out:4:6", "--width", 8)
    status, out, _ = answer(capsys, "prove", "LQ-2/1+6", *chosen)
    assert status == 0
    assert "all multipliers of 2 bits times a power of two" in out
    assert "0 proved, 1 in part only up to a bound, 0 refuted." in out


def test_a_loadable_decoder_is_proved_as_exported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sizes = ("--lifted", 2, "--group", 1, "--window", 8)
    assert answer(capsys, "export-loadable", tmp_path, *sizes)[0] == 0
    file = tmp_path / "liftquant_loadable.v"
    status, out, err = answer(capsys, "prove", "--exported", file, "LQ-2/1+6", "--json")
    assert status == 0, err
    (decoder,) = json.loads(out)["decoders"]
    assert decoder["outcome"] == "proved"
    assert [c["code"] for c in decoder["codes"]] == ["LQ-2/1+6"]
    assert {p["claim"] for p in decoder["proofs"]} == {
        "loaded", "load", "rows", "parts", "chain", "buffer", "paths",
    }  # fmt: skip

    verilog = file.read_text()
    text, count = re.subn(r"bus__payload\[7:0\];", "bus__payload[8:1];", verilog)
    assert count > 0
    file.write_text(text)
    status, out, _ = answer(capsys, "prove", "--exported", file)  # every code that fits
    assert (status, "load refuted: bit 0 of address 0x1000 is not replaced" in out) == (1, True)

    status, _, err = answer(capsys, "prove", "--exported", file, "LQ-16/8")
    assert (status, "the decoder was built for 2" in " ".join(err.split())) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give codes, or --all, or --exported FILE.v, one of the three"),
        (("LQ-2/1+6", "--all"), "give codes, or --all, or --exported"),
        (("LQ-2/1+7",), r"no code LQ-2/1\+7 is shipped"),
        (("LQ-2/1+6", "--weights", 3), "too narrow for LQ-2/1"),
        (("LQ-2/1+6", "--weights", 9, "--lanes", 10), "lanes=10 is more than groups=9"),
        (("LQ-2/1+6", "--architecture", "shared:1"), "architecture shared takes 2..32 cycles"),
        (("LQ-2/1+6", "--scale", "in:8"), "scale 'in:8' is not AXIS:MULTIPLIER_BITS:SHIFT"),
        (("--exported", "nothing.v"), r"nothing\.v does not exist; give a \.v that"),
    ],
)
def test_bad_input_is_one_message(
    capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], message: str
) -> None:
    status, _, err = answer(capsys, "prove", *arguments)
    assert status == 2
    assert re.search(message, err), err
    assert "Traceback" not in err


def test_an_engine_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    layer = ["--rows", "20", "--columns", "9", "--lanes", "8"]
    assert run(["rtl", "export-engine", "LQ-2/1+6", str(tmp_path), *layer]) == 0
    capsys.readouterr()
    status, _, err = answer(capsys, "prove", "--exported", tmp_path / "liftquant_engine.v")
    assert status == 2
    assert "is an engine; proofs are for decoders" in " ".join(err.split())


def test_a_foreign_sidecar_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.v").write_text("module a; endmodule")
    (tmp_path / "a.json").write_text("{}")
    status, _, err = answer(capsys, "prove", "--exported", tmp_path / "a.v")
    assert (status, "a.json is no sidecar" in err) == (2, True)
