"""``liftquant tune`` from end to end, on a tiny model that reads text."""

import json
from pathlib import Path

import pytest
import torch

from algo.checkpoint import Checkpoint
from algo.model import load_original, load_quantised
from algo.tune import divergence
from liftquant.cli import run
from liftquant.texts import calibration_windows
from tests.conftest import write_tiny_llama
from tests.liftquant.conftest import add_tokenizer

SHORT = ["--calib-tokens", "512", "--calib-context", "32"]


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = run([str(a) for a in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def coarse(reading_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune") / "coarse"
    arguments = ["quantize", str(reading_llama), str(folder), "--bits", "1.5", "--window", "8"]
    assert run([*arguments, "--uniform", *SHORT]) == 0
    return folder


def test_tuned_checkpoint_predicts_more_like_the_original(
    reading_llama: Path, coarse: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from algo.source import open_source

    tuned = tmp_path / "tuned"
    status, out, err = command(
        capsys, "tune", coarse, reading_llama, tuned, *SHORT, "--epochs", 3, "--rate", 0.005,
        "--json",
    )  # fmt: skip
    assert status == 0, err
    summary = json.loads(out)
    assert summary["folder"] == str(tuned)
    assert summary["layers"] == 14
    status, out, _ = command(capsys, "inspect", coarse, "--json")
    assert summary["bytes"] == json.loads(out)["bytes"]
    Checkpoint(tuned).verify()
    windows = calibration_windows(open_source(str(reading_llama)), "builtin", 32, 512)
    original, _ = load_original(str(reading_llama))
    far = {}
    with torch.no_grad():
        for folder in (coarse, tuned):
            logits = load_quantised(Checkpoint(folder))(windows).logits
            far[folder] = float(divergence(original(windows).logits, logits))
    assert far[tuned] < 0.95 * far[coarse]
    status, out, _ = command(capsys, "inspect", tuned, "--verify")
    assert status == 0


def test_result_for_people_is_a_table(
    reading_llama: Path, coarse: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "words.txt"
    text.write_text("words and words and words " * 10)
    status, out, err = command(
        capsys, "tune", coarse, reading_llama, tmp_path / "o", "--calib", text, "--epochs", 1,
        "--calib-context", 16,
    )  # fmt: skip
    assert status == 0, err
    assert "14 layers" in out
    assert "tuning" in err


def test_bad_input_gets_one_message_and_status_2(
    reading_llama: Path, coarse: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_tiny_llama(tmp_path / "other", vocab_size=99)
    add_tokenizer(other)
    cases: list[tuple[list[object], str]] = [
        (["nowhere", reading_llama, tmp_path / "o"], "nowhere does not exist"),
        ([coarse, "nowhere", tmp_path / "o"], "nowhere does not exist"),
        ([coarse, coarse, tmp_path / "o"], "is a liftquant checkpoint already"),
        ([coarse, reading_llama, coarse], "holds a finished checkpoint; choose another folder"),
        ([coarse, reading_llama, reading_llama], "exists and is not empty"),
        ([coarse, other, tmp_path / "o"], "99 tokens, the checkpoint 96"),
        ([coarse, reading_llama, tmp_path / "o", "--calib", "x.txt"], "--calib x.txt cannot be"),
        ([coarse, reading_llama, tmp_path / "o", "--calib", "none"], "--calib none cannot be read"),
        ([coarse, reading_llama, tmp_path / "o", "--rate", "0"], "Invalid value for '--rate'"),
        ([coarse, reading_llama, tmp_path / "o", "--epochs", "0"], "Invalid value for '--epochs'"),
    ]
    for arguments, message in cases:
        status, _, err = command(capsys, "tune", *arguments)
        assert (status, message in err) == (2, True), (message, err)
        assert "Traceback" not in err
    assert not (tmp_path / "o").exists()
