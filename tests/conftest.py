"""Fixtures shared by all tests: codes with random taps, a tiny model, the real one."""

import os
from collections.abc import Iterator
from pathlib import Path

# no test may wait for a network
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
import torch
from hypothesis import settings

from algo.code import LiftCode, block_shifts, sliding_shifts

# tests run side by side, and the products of tiny models are too small to be shared
torch.set_num_threads(1)

settings.register_profile("liftquant", deadline=None, max_examples=30, print_blob=True)
settings.load_profile("liftquant")

ROOT = Path(__file__).parent.parent


def random_code(
    lifted: int,
    group: int,
    window: int | None = None,
    seed: int = 0,
    parities: tuple[int, ...] = (),
    exponent: int = 6,
) -> LiftCode:
    """A code with random taps: a block code, or a sliding one with the given window."""
    rng = np.random.default_rng(seed)
    shifts = block_shifts(lifted, group) if window is None else sliding_shifts(lifted, group)
    bits = lifted if window is None else window
    overlap = bits - shifts[-1]
    taps = np.zeros((group, lifted + overlap + len(parities)), np.int8)
    for i in range(group):
        start = sum(shifts[:i])
        taps[i, start : start + bits] = rng.integers(-60, 61, bits)
        taps[i, lifted + overlap :] = rng.integers(-60, 61, len(parities))
    return LiftCode(lifted, group, overlap, shifts, taps, exponent, parities)


def random_bits(streams: int, n: int, seed: int) -> np.ndarray:
    """uint8 0/1: the first stream all zeros, the second all ones, the others random."""
    bits = np.random.default_rng(seed).integers(0, 2, (streams, n), np.uint8)
    bits[:1] = 0
    bits[1:2] = 1
    return bits


@pytest.fixture(autouse=True, scope="session")
def exact_products() -> Iterator[None]:
    """No result depends on what the processor can do; `test_precision` asks for short products."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("algo.precision.has_short_products", lambda: False)
        yield


CODES = {
    "LQ-1/1": random_code(1, 1),
    "LQ-3/2": random_code(3, 2),
    "LQ-16/8": random_code(16, 8),
    "LQ-24/10": random_code(24, 10),
    "LQ-32/16": random_code(32, 16, exponent=7),
    "LQ-2/1+3": random_code(2, 1, 5),
    "LQ-2/1+10": random_code(2, 1, 12),
    "LQ-3/1+5": random_code(3, 1, 8),
    "LQ-5/2+4": random_code(5, 2, 7),
    "LQ-12/5+9": random_code(12, 5, 12),
    "LQ-2/1+6^3": random_code(2, 1, 8, parities=(0b11, 0b1000001, 0b10110000)),
    "LQ-5/2+4^2": random_code(5, 2, 7, parities=(0b11, 0b1100001)),
}


@pytest.fixture(params=CODES.values(), ids=CODES.keys())
def code(request: pytest.FixtureRequest) -> LiftCode:
    """Every geometry in turn."""
    return request.param


def write_tiny_llama(folder: Path, seed: int = 0, **overrides: object) -> Path:
    """A random Llama of two blocks with odd widths, as a Hugging Face directory, in `dtype`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    fields: dict[str, object] = {
        "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        "tie_word_embeddings": True,
    }  # fmt: skip
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{**fields, **overrides}))
    model.to(overrides.get("dtype", torch.float32)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def real_gguf() -> Path:
    """SmolLM2-135M-Instruct, which `make model` fetches (and `make test` does before the tests)."""
    found = sorted((ROOT / "build" / "model").rglob("*.gguf"))
    assert found, "the real model is not there; run `make model` first"
    return found[0]
