"""What a process of `bench generate` does with its model, in this process."""

import io
import queue
from pathlib import Path
from typing import Any

import pytest

from algo.errors import LiftError
from liftquant import generation_child
from liftquant.generation_child import ORPHANED, Served
from tests.liftquant.scripted import chain, write_scripted


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scripted(tmp_path_factory.mktemp("scripted"), chain("xyz"))


@pytest.fixture(scope="module")
def served(folder: Path) -> Served:
    served = Served()
    told = served.load(str(folder), "float32", "a8", 1, "the/model")
    assert (told["vocabulary"], told["threads"], told["integers"]) == (264, 1, None)
    # one head and embedding of 264 x 264, projections, norms; in four bytes each
    assert told["weights_bytes"] > 4 * (2 * 264 * 264)
    return served


def test_the_prompt_is_the_beginning_of_a_text(served: Served) -> None:
    assert served.prompt("xyz and more", 4) == {"tokens": [*b"xyz "]}
    with pytest.raises(LiftError, match="the built-in text has 3 tokens; --prompt-tokens 4"):
        served.prompt("xyz", 4)


def test_a_round_makes_so_many_tokens_whatever_ends_a_text(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model would end its text after two."""
    made: list[Any] = []
    inner = served._model.generate
    monkeypatch.setattr(
        served._model, "generate", lambda *a, **k: made.append(inner(*a, **k)), raising=False
    )
    told = served.round([*b"x"], 9)
    assert made[0].shape == (1, 10)
    assert told["prefill_seconds"] > 0
    assert told["tokens_per_second"] > 0


def test_what_does_not_fit_the_context_is_refused(served: Served) -> None:
    served.warm_up([7] * 60, 4)
    with pytest.raises(LiftError, match=r"60 tokens and 5 new ones are more than .* context of 64"):
        served.warm_up([7] * 60, 5)
    with pytest.raises(LiftError, match="prompt has 64 tokens, and the model's context is 64"):
        served.warm_up([7] * 64, 2)


def test_messages_name_the_model_as_the_user_does(tmp_path: Path) -> None:
    with pytest.raises(LiftError, match=r"^the/model holds no config\.json"):
        Served().load(str(tmp_path), "float32", None, 1, "the/model")


def test_an_original_is_saved_in_bfloat16(reading_llama: Path, tmp_path: Path) -> None:
    Served().save(str(reading_llama), str(tmp_path / "saved"))
    served = Served()
    told = served.load(str(tmp_path / "saved"), "bfloat16", None, 1, "m")
    assert served.prompt("abc", 3)["tokens"] == [65, 66, 67]
    stored = (tmp_path / "saved" / "model.safetensors").stat().st_size
    assert stored < 1.2 * told["weights_bytes"]


def test_the_end_of_its_input_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is doing: another thread waits for it."""
    ended: list[int] = []
    monkeypatch.setattr(generation_child.os, "_exit", ended.append)
    monkeypatch.setattr(generation_child.sys, "stdin", io.StringIO('{"do": "memory"}\n'))
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    generation_child._listen(requests)
    assert requests.get_nowait() == {"do": "memory"}
    assert ended == [ORPHANED]
