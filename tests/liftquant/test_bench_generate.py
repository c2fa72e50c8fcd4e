"""``liftquant bench generate`` on tiny models, with the real processes."""

import json
from pathlib import Path

import pytest

from algo.errors import LiftError
from liftquant.generation_process import GenerationProcess
from tests.liftquant.test_cli import answer


def test_two_models_are_measured(
    capsys: pytest.CaptureFixture[str],
    reading_llama: Path,
    reading_checkpoint: Path,
    tmp_path: Path,
) -> None:
    status, out, err = answer(
        capsys, "bench", "generate", reading_llama, reading_checkpoint, "--rounds", 2,
        "--threads", 1, "--prompt-tokens", 5, "--new-tokens", 6, "--integers", "a15", "--json",
        "--out", tmp_path / "r.json", "--plot", tmp_path / "p.svg",
    )  # fmt: skip
    assert status == 0, err
    result = json.loads(out)
    assert result == json.loads((tmp_path / "r.json").read_text())
    assert "<svg" in (tmp_path / "p.svg").read_text()
    assert result["settings"] == {
        "prompt_tokens": 5, "new_tokens": 6, "rounds": 2, "dtype": "bfloat16", "integers": "a15",
        "threads": 1,
    }  # fmt: skip
    assert result["environment"]["threads"] == 1
    first, second = result["models"]
    assert [first["integers"], second["integers"]] == [None, "a15"]
    assert [first["model"], second["model"]] == [str(reading_llama), str(reading_checkpoint)]
    for row in result["models"]:
        assert len(row["prefill_seconds"]) == len(row["tokens_per_second"]) == 2
        assert min(row["prefill_seconds"] + row["tokens_per_second"]) > 0
        assert row["load_seconds"] > 0
        assert row["warm_up_seconds"] > 0
        assert row["peak_bytes"] >= row["before_loading_bytes"] > 50 * 2**20
    # 36,864 weights in 14 layers, 48 columns of 96 tied embeddings, five norms; and rotary buffers
    assert 2 * (36864 + 96 * 48 + 5 * 48) <= first["weights_bytes"] < 90_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument"),
        (["nowhere"], "nowhere does not exist"),
        ([".", "--dtype", "float16"], "--dtype float16 is neither float32 nor bfloat16"),
        ([".", "--integers", "a9"], "--integers a9 is neither a8 nor a15"),
        ([".", "--new-tokens", "1"], "Invalid value for '--new-tokens'"),
        ([".", "--rounds", "0"], "Invalid value for '--rounds'"),
        ([".", "--plot", "."], "--plot . is a directory; name a file"),
        ([".", "--plot", "p.png"], "--plot p.png: pictures are SVG"),
    ],
)
def test_bad_input_gets_one_message_and_status_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = answer(capsys, "bench", "generate", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert not list(tmp_path.iterdir())


def test_a_process_that_breaks_is_told() -> None:
    """Two ways: an error that nobody expected, then a process that is gone."""
    with GenerationProcess("some/model") as child:
        with pytest.raises(LiftError, match=r"some/model: its process ended .*no_such_request"):
            child.ask("no_such_request")
        with pytest.raises(LiftError, match="some/model: its process ended"):
            child.ask("memory")


def test_memory_is_the_childs_own() -> None:
    """Not what this process had when it started the child, as getrusage has it on Linux."""
    ballast = b"x" * 300_000_000
    with GenerationProcess("m") as child:
        told = child.ask("memory")
    assert told["resident_bytes"] <= told["peak_bytes"] < len(ballast)
