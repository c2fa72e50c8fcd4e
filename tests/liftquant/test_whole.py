"""The whole path on weights of the real model: GGUF, whiten, encode, pack, three decoders."""

from pathlib import Path

import numpy as np
import pytest
import torch

from algo.activations import integer_product, quantise_activations
from algo.matrix import AXES, Axis, quantise_matrix
from algo.packing import transpose_words
from algo.shipped import load_code
from algo.source import open_source
from algo.whitening import random_whitening
from liftquant.crosschecking import Settings, check_layer


@pytest.mark.parametrize(("axis", "name"), [("out", "LQ-12/5+9"), ("in", "LQ-2/1+6")])
def test_real_weights_decode_alike_three_ways(
    real_gguf: Path, tmp_path: Path, axis: Axis, name: str
) -> None:
    weight = open_source(str(real_gguf)).tensor("model.layers.3.self_attn.k_proj.weight")
    code = load_code(name)
    whitened = random_whitening(576, 1).weights(weight)
    matrix = quantise_matrix(whitened, code, axis)
    error = (matrix.dequantise() - whitened).square().sum() / whitened.square().sum()
    # whitened weights are near enough to Gaussian for the code to do on them as on N(0, 1)
    shipped = {"LQ-12/5+9": 0.0439, "LQ-2/1+6": 0.0801}[name]
    assert error < 1.1 * shipped
    check = check_layer("k_proj", matrix, Settings(lanes=4, seed=1), tmp_path)
    assert check.passed, check


@pytest.mark.parametrize("axis", AXES)
def test_one_bit_product_makes_the_integer_layer(axis: Axis) -> None:
    """The fused form: one-bit product and small projection equal the oracle's integer layer."""
    from gpu.interpret import interpreted_bitmm

    code = load_code("LQ-12/5+9")
    rng = np.random.default_rng(2)
    weights = torch.from_numpy(rng.standard_normal((30, 40)).astype("f"))
    matrix = quantise_matrix(weights, code, axis)
    digits, _ = quantise_activations(torch.from_numpy(rng.standard_normal((3, 40)).astype("f")), 1)
    groups, n = matrix.groups, matrix.groups * code.lifted
    places = (np.arange(groups)[:, None] * code.lifted + np.arange(code.lifted + code.overlap)) % n
    if axis == "out":  # project what the one-bit product gives: o = M (B x)
        bits = transpose_words(matrix.words, n)
        lifted = interpreted_bitmm(bits, digits[0].numpy().T.copy()).astype(np.int64)
        sums = np.einsum("ij,gjt->git", code.taps.astype(np.int64), lifted[places])
        product = sums.reshape(-1, 3)[:30].T
    else:  # lift the activations first: o = B (M^T x); small enough here for one digit
        padded = np.zeros((groups * code.group, 3), np.int64)
        padded[:40] = digits[0].numpy().T
        lifted = np.zeros((n, 3), np.int64)
        spread = np.einsum(
            "ij,git->gjt", code.taps.astype(np.int64), padded.reshape(groups, code.group, 3)
        )
        np.add.at(lifted, places, spread)
        # int8 digits of the lifted activations, least significant first
        parts, left = [], lifted
        while left.any():
            low = (left + 64) % 128 - 64
            parts.append(low.astype(np.int8))
            left = (left - low) // 128
        product = sum(
            interpreted_bitmm(matrix.words, part).astype(np.int64) * 128**k
            for k, part in enumerate(parts)
        ).T
    assert np.array_equal(product, integer_product(matrix, digits))
