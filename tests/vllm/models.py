"""Tiny random models whose heads vLLM's attention takes, quantised; what transformers says."""

import warnings
from functools import cache
from pathlib import Path

import torch

from algo.quantise import Recipe, quantise_model
from algo.shipped import load_code
from algo.source import open_source
from tests.random_models import random_model

SIZES = {
    "vocab_size": 160, "hidden_size": 128, "intermediate_size": 176, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
# class, what else its config says, code, axis
FAMILIES = {
    "llama": ("Llama", {"attention_bias": True}, "LQ-2/1+6", "out"),
    "qwen2": ("Qwen2", {"num_key_value_heads": 1}, "LQ-2/1+6^8", "out"),
    "qwen3": ("Qwen3", {"head_dim": 32, "tie_word_embeddings": True}, "LQ-12/5+9", "out"),
    "gemma2": ("Gemma2", {"head_dim": 32, "query_pre_attn_scalar": 32}, "LQ-3/1+5", "in"),
    "gemma3": ("Gemma3", {"head_dim": 32, "query_pre_attn_scalar": 32}, "LQ-3/1+5", "out"),
    "mistral": ("Mistral", {"head_dim": 32, "sliding_window": 16}, "LQ-2/1+6^8", "in"),
    "phi3": ("Phi3", {"tie_word_embeddings": False}, "LQ-12/5+9", "out"),  # q, k and v are one
}
PROMPTS = [
    torch.randint(3, 160, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    for length in (1, 3, 7, 12, 17, 5)
]
TOKENS = 16


def write_checkpoint(folder: Path, family: str) -> Path:
    """A random model of `family`, its biases and norms too, quantised."""
    name, extra, code, axis = FAMILIES[family]
    model = random_model(name, {**SIZES, **extra}, seed=3, spread=0.1)
    model.save_pretrained(folder / "model")
    source = open_source(str(folder / "model"))
    quantise_model(source, Recipe(load_code(code), axis, seed=1), folder / "out")
    return folder / "out"


@cache
def transformers_tokens(
    model: Path, prompts: tuple[tuple[int, ...], ...], tokens: int, digits: int
) -> list[list[int]]:
    """What transformers generates greedily, in float32."""
    from transformers import AutoModelForCausalLM

    import liftquant

    config = liftquant.LiftquantConfig(digits=digits)
    with warnings.catch_warnings():  # of the config being in the checkpoint already
        warnings.simplefilter("ignore", UserWarning)
        network = AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.float32, quantization_config=config
        )
    out = []
    for prompt in prompts:
        given = torch.tensor([prompt])
        told = {"do_sample": False, "min_new_tokens": tokens, "max_new_tokens": tokens}
        mask = torch.ones_like(given)
        text = network.generate(
            given, attention_mask=mask, eos_token_id=None, pad_token_id=0, **told
        )
        out.append(text[0, len(prompt) :].tolist())
    return out
