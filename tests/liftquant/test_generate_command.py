"""``liftquant generate`` as a user meets it: text alone on stdout, all else on stderr."""

import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from algo.model import load_any
from liftquant.cli import run
from liftquant.generating import end_tokens
from liftquant.served_model import open_served
from tests.conftest import write_tiny_llama
from tests.liftquant.conftest import add_tokenizer
from tests.liftquant.scripted import chain, write_scripted
from tests.liftquant.test_cli import answer

PROMPT = "lazy dog"  # behind which all of the models below differ


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scripted(tmp_path_factory.mktemp("scripted"), chain(">日é!", "xyz", "q\n"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its weights are larger than usual, so that it does not repeat one token."""
    folder = write_tiny_llama(tmp_path_factory.mktemp("original"), initializer_range=0.3)
    add_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate") / "out"
    options = ("--bits", "2.4", "--calib", "none")
    assert run(["quantize", str(original), str(folder), *options]) == 0
    return folder


def _json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    status, out, err = answer(capsys, "generate", *arguments, "--json")
    assert status == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_an_altered_byte_is_found(
    capsys: pytest.CaptureFixture[str], checkpoint: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    block = copy / "block-000.safetensors"
    content = bytearray(block.read_bytes())
    content[-1] ^= 1
    block.write_bytes(content)
    status, out, err = answer(capsys, "generate", copy, "-p", "x")
    assert (status, out) == (2, "")
    assert "it was altered; copy the checkpoint again" in " ".join(err.split())


def test_integers_of_what_is_not_quantised_are_refused(
    capsys: pytest.CaptureFixture[str], scripted: Path
) -> None:
    status, out, err = answer(capsys, "generate", scripted, "-p", "x", "--integers", "a8")
    assert (status, out) == (2, "")
    assert f"{scripted} is not quantised; leave out --integers" in " ".join(err.split())


@pytest.mark.parametrize(
    ("load", "threads", "told"), [(9.0, 2, True), (9.0, 1, False), (0.5, 2, False)]
)
def test_a_busy_machine_is_told_of(
    load: float, threads: int, told: bool, capsys: pytest.CaptureFixture[str], scripted: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    _, _, err = answer(capsys, "generate", scripted, "-p", "hello")
    assert ("this machine is busy (load 9.0, 2 cores): --threads 1" in err) == told


def test_text_alone_is_on_stdout(capsys: pytest.CaptureFixture[str], scripted: Path) -> None:
    status, out, err = answer(capsys, "generate", scripted, "-p", "hello", "--threads", 1)
    assert (status, out) == (0, "日é!\n")
    assert "7 tokens after a prompt of 12 (ended by itself), the first after" in err
    assert "tokens/s on 1 thread, peak memory" in err
    status, out, _ = answer(capsys, "generate", scripted, "-p", "q", "--no-chat")
    assert (status, out) == (0, "\n")  # ends with a line break already


class _Watched(io.StringIO):
    """Standard output that notes what is written and what is flushed, in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str | None] = []

    def write(self, text: str, /) -> int:
        self.seen.append(text)
        return super().write(text)

    def flush(self) -> None:
        self.seen.append(None)


def test_every_piece_is_flushed(monkeypatch: pytest.MonkeyPatch, scripted: Path) -> None:
    watched = _Watched()
    monkeypatch.setattr(sys, "stdout", watched)
    assert run(["generate", str(scripted), "-p", "hello"]) == 0
    assert watched.seen[:8] == ["日", None, "é", None, "!", None, "\n", None]


def test_the_prompt_comes_from_stdin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, scripted: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("two\nlines x\n"))
    assert _json(capsys, scripted, "--prompt", "-", "--no-chat")["prompt"] == "two\nlines x"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8"))
    status, _, err = answer(capsys, "generate", scripted, "--prompt", "-")
    assert (status, "prompt on stdin is not UTF-8 text" in err) == (2, True)


def test_json_has_text_and_measurements(capsys: pytest.CaptureFixture[str], scripted: Path) -> None:
    found = _json(capsys, scripted, "-p", "x", "--no-chat", "--dtype", "float32")
    times = {name: found.pop(name) for name in ("seconds_to_first_token", "tokens_per_second")}
    assert all(value > 0 for value in times.values())
    assert found.pop("peak_rss_bytes") > 50 * 2**20
    assert found == {
        "model": str(scripted), "prompt": "x", "dtype": "float32", "integers": None,
        "temperature": 0.0, "top_p": 1.0, "top_k": 0, "text": "yz", "stopped": "end",
        "seed": None, "prompt_tokens": 1, "tokens": 3,
    }  # fmt: skip


def test_one_seed_one_text(capsys: pytest.CaptureFixture[str], scripted: Path) -> None:
    options = (scripted, "-p", "x", "--temperature", 100, "--max-new-tokens", 20)
    first = _json(capsys, *options, "--seed", 5)
    assert _json(capsys, *options, "--seed", 5)["text"] == first["text"]
    assert _json(capsys, *options, "--seed", 6)["text"] != first["text"]
    drawn = _json(capsys, *options)
    assert _json(capsys, *options, "--seed", drawn["seed"])["text"] == drawn["text"]


@torch.no_grad()
def _reference(folder: Path, digits: Any) -> str:
    """What the reference's integers lead to."""
    model, tokenizer = load_any(str(folder), digits)
    tokens = torch.tensor([tokenizer(PROMPT)["input_ids"]])
    for _ in range(12):
        likeliest = model(tokens).logits[:, -1:].argmax(-1)
        tokens = torch.cat([tokens, likeliest], 1)
        if int(likeliest) in end_tokens(model, tokenizer):
            break
    made: str = tokenizer.decode(tokens[0, len(PROMPT) :], skip_special_tokens=True)
    return made


def test_a_checkpoint_says_what_the_reference_says(
    capsys: pytest.CaptureFixture[str], checkpoint: Path, original: Path
) -> None:
    options = ("-p", PROMPT, "--max-new-tokens", 12, "--dtype", "float32")
    texts = [_reference(checkpoint, 1), _reference(checkpoint, 2), _reference(original, None)]
    assert len(set(texts)) == 3, "the test needs models that differ"
    shown = [
        _json(capsys, checkpoint, *options),
        _json(capsys, checkpoint, *options, "--integers", "a15"),
        _json(capsys, original, *options),
    ]
    assert [one["text"] for one in shown] == texts
    assert [one["integers"] for one in shown] == ["a8", "a15", None]


def test_a_saved_copy_says_the_same(
    capsys: pytest.CaptureFixture[str], checkpoint: Path, tmp_path: Path
) -> None:
    model, tokenizer = open_served(str(checkpoint), torch.float32, 2)
    model.save_pretrained(tmp_path / "copy")
    tokenizer.save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy" / "liftquant.json").exists()
    options = ("-p", PROMPT, "--max-new-tokens", 12, "--dtype", "float32")
    copied = _json(capsys, tmp_path / "copy", *options)
    assert copied["integers"] == "a15"  # as it was saved
    assert copied["text"] == _reference(checkpoint, 2)
    assert _json(capsys, tmp_path / "copy", *options, "--integers", "a8")["text"] == _reference(
        checkpoint, 1
    )


def test_a_checkpoint_on_the_hub_says_the_same(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    def fetched(name: str, allow_patterns: list[str]) -> str:
        assert name == "someone/model"
        files = [file for pattern in allow_patterns for file in checkpoint.glob(pattern)]
        for file in files:
            shutil.copyfile(file, tmp_path / file.name)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    options = ("-p", PROMPT, "--max-new-tokens", 12, "--dtype", "float32", "--integers", "a15")
    found = _json(capsys, "someone/model", *options)
    assert (found["integers"], found["text"]) == ("a15", _reference(checkpoint, 2))


def test_ctrl_c_keeps_what_was_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, scripted: Path
) -> None:
    """Within the second character: it is shown as one that was cut off."""
    from liftquant.text_pieces import TextPieces

    add = TextPieces.add

    def interrupted(self: TextPieces, token: int) -> str:
        piece = add(self, token)
        if token == "é".encode()[0]:
            raise KeyboardInterrupt
        return piece

    monkeypatch.setattr(TextPieces, "add", interrupted)
    status, out, err = answer(capsys, "generate", scripted, "-p", "hello")
    assert (status, out) == (130, "日\ufffd\n")
    assert "4 tokens after a prompt of 12 (interrupted)" in err
    assert "goes on from there" not in err


def test_the_end_of_the_context_is_told(capsys: pytest.CaptureFixture[str], scripted: Path) -> None:
    status, out, err = answer(capsys, "generate", scripted, "-p", "x" * 62, "--no-chat")
    assert (status, out) == (0, "yz\n")
    assert "context has room for 2 new tokens" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "-p", "x"], "nowhere does not exist"),
        ([".", "-p", "x"], "holds no config.json"),
        (["M"], "no prompt: give --prompt TEXT, or --prompt -"),
        (["M", "-p", ""], "the prompt is empty"),
        (["M", "-p", "x" * 64, "--no-chat"], "prompt has 64 tokens, and the model's context is 64"),
        (["M", "-p", "x", "--temperature", "-1"], "--temperature -1: 0 takes the likeliest"),
        (["M", "-p", "x", "--dtype", "float8"], "--dtype float8 is neither float32 nor bfloat16"),
        (["M", "-p", "x", "--integers", "a9"], "--integers a9 is neither a8 nor a15"),
        (["M", "-p", "x", "--no-chat", "--system", "s"], "--no-chat excludes one"),
        (["M", "-p", "x", "--system", "\udcff"], "--system is not UTF-8 text"),
        (["M", "-p", "x", "--max-new-tokens", "0"], "Invalid value for '--max-new-tokens'"),
        (["M", "-p", "x", "--seed", str(2**64)], "Invalid value for '--seed'"),
        (["M", "-p", "x", "--threads", "0"], "Invalid value for '--threads'"),
        (["TINY", "-p", "x"], "no tokenizer can be loaded"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_message_and_status_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    scripted: Path,
    tiny_llama: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"M": str(scripted), "TINY": str(tiny_llama)}
    status, out, err = answer(capsys, "generate", *(places.get(a, a) for a in arguments))
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("liftquant.json", "unfinished"),
        ("block-001.safetensors", "block-001.safetensors is missing"),
        ("tokenizer.json", "tokenizer.json is missing"),
    ],
)
def test_half_a_checkpoint_is_refused(
    capsys: pytest.CaptureFixture[str],
    checkpoint: Path,
    original: Path,
    tmp_path: Path,
    missing: str,
    message: str,
) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    (copy / missing).unlink()
    if missing == "liftquant.json":
        from algo.manifest import UNFINISHED

        (copy / UNFINISHED).touch()
        shutil.copyfile(original / "config.json", copy / "config.json")
    status, _, err = answer(capsys, "generate", copy, "-p", "x")
    assert (status, message in err) == (2, True), err


def test_a_config_that_is_no_object_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("[]")
    status, _, err = answer(capsys, "generate", tmp_path, "-p", "x", "--integers", "a15")
    assert (status, f"{tmp_path} cannot be loaded" in err) == (2, True), err


def test_a_model_without_a_tensor_is_refused(
    capsys: pytest.CaptureFixture[str], reading_llama: Path, tmp_path: Path
) -> None:
    """transformers by itself goes on with random weights."""
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(reading_llama, tmp_path / "copy"))
    tensors = load_file(copy / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    status, _, err = answer(capsys, "generate", copy, "-p", "x")
    assert status == 2
    assert (
        "the files hold no tensor model.layers.1.mlp.up_proj.weight, which the model needs" in err
    )


def test_the_end_token_is_no_text(capsys: pytest.CaptureFixture[str], scripted: Path) -> None:
    found = _json(capsys, scripted, "-p", "z", "--no-chat")
    assert (found["text"], found["tokens"], found["stopped"]) == ("", 1, "end")
