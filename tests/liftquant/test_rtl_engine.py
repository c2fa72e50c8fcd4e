"""``liftquant rtl export-engine``: what it writes and what it refuses."""

import json
from pathlib import Path

import pytest

from liftquant.cli import run

LAYER = ["--rows", "20", "--columns", "9", "--lanes", "8"]


def export(folder: Path, code: str = "LQ-12/5+9", *options: str) -> int:
    return run(["rtl", "export-engine", code, str(folder), *LAYER, *options])


def test_ports_and_beats_are_in_the_sidecar(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert export(tmp_path, "LQ-12/5+9", "--scale", "out:16:24", "--name", "layer") == 0
    assert "20x9 in LQ-12/5+9: 3.3 weights per cycle while rows" in " ".join(
        capsys.readouterr().err.split()
    )
    sidecar = json.loads((tmp_path / "layer.json").read_text())
    widths = {port["name"]: port["width"] for port in sidecar["ports"]}
    assert widths["act__payload"] == 32
    assert widths["i__payload"] == widths["o__payload"] == 8
    assert widths["scale__payload"] == 16
    assert sidecar["bits"]["beats_per_vector"] == 2 * 48
    assert sidecar["activations"]["beats_per_vector"] == 4
    verilog = (tmp_path / "layer.v").read_text()
    assert verilog.startswith("/*")
    for port, width in widths.items():
        span = f"[{width - 1}:0] " if width > 1 else ""
        assert f"put {span}{port};" in verilog


def test_the_same_engine_is_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        assert export(tmp_path / folder, "LQ-2/1+6") == 0
    for name in ("liftquant_engine.v", "liftquant_engine.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    sidecar = json.loads((tmp_path / "a" / "liftquant_engine.json").read_text())
    assert sidecar["scale"] is None


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        ("LQ-2/1+6^8", [], "LQ-2/1+6^8 has 8 parities"),
        ("LQ-12/5+9", ["--lanes", "10"], "lanes=10 with builders=1"),
        ("LQ-12/5+9", ["--scale", "in:16:20"], "an engine requantises by a multiplier per row"),
        ("LQ-12/5+9", ["--name", "module"], "'module' cannot name a Verilog module"),
    ],
)
def test_bad_options_get_one_message(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    code: str,
    options: list[str],
    message: str,
) -> None:
    assert export(tmp_path / "out", code, *options) == 2
    errors = " ".join(capsys.readouterr().err.split())
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()
