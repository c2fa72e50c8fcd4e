"""``liftquant rtl export`` with other decoders than the default one."""

import json
from pathlib import Path

import pytest

from liftquant.cli import run
from tests.pictures import check_layout


def export(*arguments: object) -> int:
    return run(["rtl", "export", "LQ-2/1+6", *map(str, arguments), "--weights", "30"])


def test_architecture_and_output_are_in_the_sidecar(tmp_path: Path) -> None:
    options = ["--architecture", "shared:4,flow=credit", "--width", "8", "--scale", "out:16:20"]
    assert export(tmp_path, *options, "--mark-last") == 0
    sidecar = json.loads((tmp_path / "liftquant_decoder.json").read_text())
    assert sidecar["architecture"]["text"] == "shared:4,flow=credit"
    assert sidecar["output"]["weight"]["width"] == 8
    assert sidecar["scale"]["axis"] == "out"
    assert {"last", "scale__payload"} <= {port["name"] for port in sidecar["ports"]}
    assert set(sidecar["files"]) == {"verilog", "template", "component", "block", "timing"}
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"liftquant_decoder.json", *sidecar["files"].values()}
    for what in ("block", "timing"):
        check_layout((tmp_path / f"liftquant_decoder.{what}.svg").read_text())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--architecture", "rom:3"], "architecture 'rom:3' is unknown"),
        (["--architecture", "tables:9"], "inputs=9: a table of architecture tables takes 2..6"),
        (["--width", "40"], "width=40: a weight has 2..32 bits"),
        (["--scale", "in"], "scale 'in' is not AXIS:MULTIPLIER_BITS:SHIFT"),
    ],
)
def test_bad_options_get_one_message(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], message: str
) -> None:
    assert export(tmp_path / "out", *options) == 2
    errors = " ".join(capsys.readouterr().err.split())
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()


LOADABLE = ["rtl", "export-loadable", "--lifted", "8", "--group", "2", "--window", "8"]


def test_a_loadable_decoder_and_what_loads_it(tmp_path: Path) -> None:
    assert run([*LOADABLE, str(tmp_path), "--code", "LQ-2/1+6", "--weights", "30"]) == 0
    writes = json.loads((tmp_path / "liftquant_loadable.writes.json").read_text())
    assert (writes["code"]["name"], writes["groups"]) == ("LQ-2/1+6", 30)
    assert (tmp_path / "liftquant_loadable.v").read_text().count("module liftquant_loadable(")
    files = json.loads((tmp_path / "liftquant_loadable.json").read_text())["files"]
    assert set(files) == {"verilog", "template", "component", "block", "timing"}
    assert "LQ-2/1+6" in (tmp_path / files["timing"]).read_text()
    assert run([*LOADABLE, str(tmp_path), "--name", "empty"]) == 0
    files = json.loads((tmp_path / "empty.json").read_text())["files"]
    assert set(files) == {"verilog", "template", "component", "block"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--code", "LQ-2/1+6"], "--code and --weights say together what to load"),
        (["--code", "LQ-2/1+10", "--weights", "30"], "LQ-2/1+10 has window=12, the decoder was"),
        (["--parities", "99"], "parities=99: a loadable decoder holds 0..32"),
    ],
)
def test_what_cannot_be_loaded_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], message: str
) -> None:
    assert run([*LOADABLE, str(tmp_path / "out"), *options]) == 2
    errors = " ".join(capsys.readouterr().err.split())
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()
