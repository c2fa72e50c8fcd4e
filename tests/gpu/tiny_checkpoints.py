"""Tiny random models of several families, quantised, as checkpoint directories."""

from pathlib import Path

import torch

from algo.calibrated import Calibration
from algo.checkpoint import Checkpoint
from algo.quantise import Recipe, quantise_model
from algo.source import open_source
from tests.conftest import CODES
from tests.random_models import random_model

SMALL = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
# class, what else its config says, code, axis
FAMILIES = {
    "llama": ("Llama", {"tie_word_embeddings": True}, "LQ-12/5+9", "out"),
    "llama untied": ("Llama", {"tie_word_embeddings": False}, "LQ-2/1+3", "in"),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}, "LQ-2/1+6^3", "out"),
    "qwen3": ("Qwen3", {"head_dim": 12, "tie_word_embeddings": False}, "LQ-2/1+3", "out"),
    "gemma": ("Gemma", {"head_dim": 12}, "LQ-3/2", "out"),
    "gemma2": ("Gemma2", {"head_dim": 12, "query_pre_attn_scalar": 12}, "LQ-2/1+3", "out"),
    "gemma3": ("Gemma3", {"head_dim": 12, "query_pre_attn_scalar": 12}, "LQ-2/1+3", "in"),
    "mistral": ("Mistral", {"head_dim": 12, "sliding_window": 8}, "LQ-5/2+4^2", "in"),
}


def write_model(folder: Path, family: str, dtype: torch.dtype = torch.float32) -> Path:
    """A random model of `family` as a Hugging Face directory; no bias or norm is trivial."""
    name, extra, _, _ = FAMILIES[family]
    random_model(name, {**SMALL, **extra}, seed=5).to(dtype).save_pretrained(folder)
    return folder


def write_checkpoint(folder: Path, family: str, dtype: torch.dtype = torch.float32) -> Checkpoint:
    """The model of `write_model`, quantised."""
    source = open_source(str(write_model(folder / "model", family, dtype)))
    _, _, code, axis = FAMILIES[family]
    return quantise_model(source, Recipe(CODES[code], axis, seed=1), folder / "out")


def write_calibrated(folder: Path) -> Checkpoint:
    """A Qwen2 in bfloat16 with everything a layer can have: bias, input scales, turns, codes."""
    source = open_source(str(write_model(folder / "model", "qwen2", torch.bfloat16)))
    calibration = Calibration(prompt(seed=4, length=12), learned=True)
    others = {
        "model.layers.0.self_attn.k_proj": CODES["LQ-5/2+4^2"],
        "model.layers.1.mlp.down_proj": CODES["LQ-3/2"],
    }
    recipe = Recipe(CODES["LQ-2/1+3"], "out", 2, calibration, others)
    return quantise_model(source, recipe, folder / "out")


def prompt(seed: int, length: int = 7) -> torch.Tensor:
    """int64 ``(2, length)`` of tokens that end nothing."""
    return torch.randint(3, 96, (2, length), generator=torch.Generator().manual_seed(seed))
