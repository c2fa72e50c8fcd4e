"""``liftquant plan`` as a user meets it."""

import json
from pathlib import Path

import pytest
import torch

from algo.calibrated import Calibration
from algo.quantise import Recipe, quantise_model
from algo.shipped import best_code
from algo.source import open_source
from liftquant.cli import run
from tests.conftest import ROOT

CONFIGS = ROOT / "tests" / "configs"


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = run([str(a) for a in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_plan_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(
        capsys, "plan", CONFIGS / "llama-2-70b.json", "--vram", "24GB", "--context", 4096, "--json"
    )
    plan = json.loads(out)
    assert status == 0
    assert plan["budget"]["total_bytes"] == 24 * 10**9
    assert plan["weights"] == 68451041280
    for kind in ("uniform", "allocated"):
        memory = plan[kind]["memory_bytes"]
        assert sum(memory.values()) == 2 * memory["total"]
        assert memory["total"] + plan[kind]["left_bytes"] == 24 * 10**9
        assert (
            sum(plan[kind]["checkpoint_bytes"]["files"].values())
            == (plan[kind]["checkpoint_bytes"]["total"])
        )
    assert plan["uniform"]["rate"] == pytest.approx(2.4)
    assert 2.4 < plan["allocated"]["rate"] < 2.5
    assert len(plan["assumptions"]) > 4


def test_plan_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(
        capsys, "plan", CONFIGS / "smollm2-135m.json", "--vram", "1GiB", "--bits", 2,
        "--carried-dtype", "float32", "--axis", "in", "--embedding", "host",
    )  # fmt: skip
    assert status == 0
    for text in ("packed weights", "KV cache", "188,743,680", "checkpoint on disk", "Assumed:"):
        assert text in out
    assert "what is not quantised is float32 (as asked)" in out
    assert "In the host's memory" not in out  # tied: it has to be on the GPU


def test_host_bytes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(
        capsys, "plan", CONFIGS / "qwen2.5-32b.json", "--vram", "12GiB", "--context", 2048,
        "--embedding", "host",
    )  # fmt: skip
    assert status == 0
    assert "In the host's memory: 1,557,135,360 bytes." in out


def test_what_is_predicted_is_written(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = answer(
        capsys, "plan", tiny_llama, "--vram", "1GiB", "--context", 64, "--bits", 2.4, "--json"
    )
    assert status == 0
    windows = torch.randint(0, 96, (2, 16), generator=torch.Generator().manual_seed(3))
    recipe = Recipe(best_code(2.4), calibration=Calibration(windows))
    quantise_model(open_source(str(tiny_llama)), recipe, tmp_path / "out")
    written = {p.name: p.stat().st_size for p in (tmp_path / "out").glob("*.safetensors")}
    assert json.loads(out)["uniform"]["checkpoint_bytes"]["files"] == written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vram", "24G"], "'24G' is not a size"),
        (["--vram", "1GiB", "--reserve", "some"], "'some' is not a size"),
        (["--vram", "1GiB", "--context", "0"], "--context"),
        (["--vram", "1GiB", "--kv-bits", "1"], "kv_bits must be from 2 to 32"),
        (["--vram", "1GiB", "--embedding", "disk"], "--embedding disk is none of gpu, host"),
        (["--vram", "1GiB", "--axis", "up"], "--axis up is none of"),
        (["--vram", "1GiB", "--carried-dtype", "int8"], "--carried-dtype int8 is none of float32"),
        (["--vram", "1GiB", "--bits", "2.45"], "2.45 bits per weight is not one of"),
        (["--vram", "600MiB"], "more than the 600.00 MiB there are; --kv-bits 8 saves 90.00 MiB"),
        ([], "--vram"),
    ],
)
def test_bad_input_is_named_with_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    status, out, err = answer(capsys, "plan", CONFIGS / "smollm2-135m.json", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_help_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(capsys, "plan", "--help")
    assert (status, "Usage" in out) == (0, True)
