"""Every family runs under vLLM and says what transformers says.

In float32 and with two digits: the two compute attention in other orders, and what differs in the
last bit is to change no digit of an activation that decides between two tokens.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.vllm.asking import Asking
from tests.vllm.models import FAMILIES, PROMPTS, TOKENS, transformers_tokens, write_checkpoint

TWO_DIGITS = {"liftquant_digits": 2}


@pytest.fixture(scope="session", params=FAMILIES)
def served(
    request: pytest.FixtureRequest, asking: Asking, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, dict[str, Any]]:
    """The family, its checkpoint, and vLLM's answer."""
    folder = write_checkpoint(tmp_path_factory.mktemp(request.param), request.param)
    answer = asking(folder, PROMPTS, TOKENS, skip_tokenizer_init=True, hf_overrides=TWO_DIGITS)
    return request.param, folder, answer


def test_greedy_tokens_are_transformers(served: tuple[str, Path, dict[str, Any]]) -> None:
    _, folder, answer = served
    prompts = tuple(map(tuple, PROMPTS))
    expected = transformers_tokens(folder, prompts, TOKENS, digits=2)
    assert answer["tokens"] == expected
    assert len({tuple(tokens) for tokens in expected}) > 1  # a model that tells prompts apart


def test_layers_that_read_one_input_are_one(served: tuple[str, Path, dict[str, Any]]) -> None:
    family, _, answer = served
    q, kv = 128, 32 if family == "qwen2" else 64
    expected = {}
    for block in ("model.layers.0", "model.layers.1"):
        fused = family == "phi3"  # in the checkpoint, too
        expected[f"{block}.self_attn.qkv_proj.lift"] = [q + 2 * kv] if fused else [q, kv, kv]
        expected[f"{block}.self_attn.o_proj.lift"] = [128]
        expected[f"{block}.mlp.gate_up_proj.lift"] = [352] if fused else [176, 176]
        expected[f"{block}.mlp.down_proj.lift"] = [128]
    assert answer["layers"] == expected


def test_what_was_loaded_is_not_kept(served: tuple[str, Path, dict[str, Any]]) -> None:
    _, _, answer = served
    assert {name.rpartition(".")[2] for name in answer["weights"]} <= {"bias"}
