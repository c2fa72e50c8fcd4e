"""``liftquant rtl export`` with other decoders than the default one."""

import json
from pathlib import Path

import pytest

from liftquant.cli import run


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
