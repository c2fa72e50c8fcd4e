"""``liftquant eval`` and ``liftquant compare`` as a user meets them."""

import json
from pathlib import Path

import pytest

from liftquant.cli import run
from tests.liftquant.test_cli import answer

TEXT = "the quick brown fox jumps over the lazy dog; " * 30


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "fox.txt"
    file.write_text(TEXT)
    return file


@pytest.fixture(scope="module")
def checkpoint(reading_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval") / "out"
    assert run(["quantize", str(reading_llama), str(folder), "--bits", "2.4"]) == 0
    return folder


def _rows(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, object]]:
    status, out, err = answer(capsys, "eval", *arguments, "--context", 32, "--json")
    assert status == 0, err
    found: list[dict[str, object]] = json.loads(out)
    return found


def test_one_model_alone_has_no_divergence(
    capsys: pytest.CaptureFixture[str], reading_llama: Path, text: Path
) -> None:
    (row,) = _rows(capsys, reading_llama, "--text", text)
    assert "kl" not in row
    assert (row["context"], row["stride"], row["predicted"]) == (32, 32, len(TEXT) // 32 * 31)


def test_first_of_several_models_is_the_reference(
    capsys: pytest.CaptureFixture[str], reading_llama: Path, checkpoint: Path, text: Path
) -> None:
    first, second = _rows(capsys, reading_llama, checkpoint, "--text", text)
    assert "kl" not in first
    assert second["against"] == str(reading_llama)
    assert isinstance(second["kl"], float)
    assert 1e-6 < second["kl"] < 1
    named = _rows(capsys, checkpoint, reading_llama, "--against", reading_llama, "--text", text)
    assert named == [first, second]


def test_dtype_and_batch_change_nothing_beyond_rounding(
    capsys: pytest.CaptureFixture[str], reading_llama: Path, checkpoint: Path, text: Path
) -> None:
    models = (reading_llama, checkpoint, "--text", text)
    _, plain = _rows(capsys, *models)
    _, single = _rows(capsys, *models, "--batch", 1)
    _, short = _rows(capsys, *models, "--dtype", "bfloat16")
    for name in ("perplexity", "kl", "top1", "standard_error"):
        assert single[name] == pytest.approx(plain[name], rel=1e-4), name
    assert short["perplexity"] == pytest.approx(plain["perplexity"], rel=1e-2)
    assert short["perplexity"] != plain["perplexity"]


def test_sliding_windows_predict_every_token(
    capsys: pytest.CaptureFixture[str], reading_llama: Path, text: Path
) -> None:
    (row,) = _rows(capsys, reading_llama, "--text", text, "--stride", 8, "--tokens", 100)
    # windows at 0, 8, ... 64: all of the first 96 tokens but the very first
    assert (row["windows"], row["predicted"], row["stride"]) == (9, 95, 8)


def test_models_of_two_tokenizers_are_refused(
    capsys: pytest.CaptureFixture[str], reading_llama: Path, real_gguf: Path, text: Path
) -> None:
    status, _, err = answer(
        capsys, "eval", reading_llama, real_gguf, "--text", text, "--context", 32
    )
    assert (status, "cuts the text into other tokens" in err) == (2, True)


def test_table_shows_divergence(
    capsys: pytest.CaptureFixture[str], reading_llama: Path, checkpoint: Path, text: Path
) -> None:
    status, out, _ = answer(
        capsys, "eval", reading_llama, checkpoint, "--text", text, "--context", 32
    )
    assert status == 0
    assert "KL, nats per token" in out
    assert "same top token" in out


def test_comparison_is_written_and_resumed(
    capsys: pytest.CaptureFixture[str], reading_llama: Path, text: Path, tmp_path: Path
) -> None:
    command = [
        "compare", reading_llama, "--bits", "2.4,5", "--against", "rtn", "--out", tmp_path,
        "--text", text, "--context", 32, "--calibration-tokens", 64, "--json",
    ]  # fmt: skip
    status, out, err = answer(capsys, *command)
    assert status == 0, err
    result = json.loads(out)
    assert result == json.loads((tmp_path / "results.json").read_text())
    assert {e["peer"] for e in result["entries"]} == {"liftquant", "rtn"}
    assert "not run: liftquant 5 bits: 5 bits per weight are outside what the shipped codes" in err
    assert "INT2 group 32" in (tmp_path / "table.txt").read_text()
    status, again, err = answer(capsys, *command)
    assert (status, json.loads(again)) == (0, result)
    total = len(result["entries"]) + 1
    assert f"{total} entries, {total - 1} of them done before" in err


def test_stride_longer_than_the_window_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: Path, reading_llama: Path
) -> None:
    status, _, err = answer(
        capsys, "eval", reading_llama, "--text", text, "--context", 32, "--stride", 33
    )
    assert (status, "stride of 33 tokens does not fit windows of 32" in err) == (2, True)
