"""The exact layer in torch against the oracle, and the random layers it is run on."""

import numpy as np
import pytest
import torch

from algo.activations import integer_layer, quantise_activations
from algo.errors import LiftError
from algo.packing import unpack_bits
from algo.shipped import load_code
from gpu import exact_layer as module
from gpu.exact_layer import decoded_weights, exact_layer
from gpu.model_layers import MODELS, parse_layers
from gpu.random_layer import random_activations, random_matrix
from tests.cases import SHAPES, random_code

SEED = 31


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("digits", [1, 2])
def test_the_exact_layer_is_the_oracles(shape, axis, digits, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 200)  # several chunks, the last one shorter
    matrix = random_matrix((37, 41), random_code(*shape), axis, SEED)
    x = random_activations(3, 41, SEED)
    x[1] = 0
    x[2, 0] = 60000
    found = exact_layer(matrix, *quantise_activations(x, digits))
    assert found.dtype == torch.float32
    assert torch.equal(found, integer_layer(matrix, x, digits))
    assert torch.equal(decoded_weights(matrix, torch.device("cpu")), matrix.dequantise())


@pytest.mark.parametrize("axis", ["in", "out"])
def test_random_words_are_a_checkpoints(axis):
    code = load_code("LQ-12/5+9")
    matrix = random_matrix((4099, 17) if axis == "out" else (17, 4099), code, axis, SEED)
    bits = unpack_bits(matrix.words, matrix.groups * 12)  # refuses padding that is not zero
    assert 0.49 < bits.mean() < 0.51
    again = random_matrix(matrix.shape, code, axis, SEED)
    assert np.array_equal(matrix.words, again.words)
    assert torch.equal(matrix.scales, again.scales)


def test_layers_by_shape_and_by_model():
    assert parse_layers("6144x4096, 3X5") == {"6144x4096": (6144, 4096), "3x5": (3, 5)}
    named = parse_layers("llama-3-8b,Llama-3-70B")
    assert named["llama-3-8b qkv"] == (6144, 4096)
    assert named["llama-3-70b down"] == (8192, 28672)
    assert len(named) == 8
    # q, k, v and o of all heads, gate, up and down: what the 8B model's blocks hold
    assert sum(r * k for r, k in MODELS["llama-3-8b"].values()) * 32 == 6_979_321_856


@pytest.mark.parametrize(
    "text", ["0x4", "4096", "4096x", "-1x4", "4x-1", "llama", "1.5x3", "99999999x1"]
)
def test_other_layers_are_refused(text):
    with pytest.raises(LiftError, match="is neither ROWSxCOLUMNS"):
        parse_layers(text)


def test_no_layers_are_refused():
    with pytest.raises(LiftError, match="nothing named"):
        parse_layers(" ,")
