"""Shipped codes on all three implementations: every codeword, and the extreme words."""

from pathlib import Path

import numpy as np
import pytest
import torch

from algo.decode import decode_words
from algo.matrix import PackedMatrix
from algo.packing import pack_bits, stream_groups
from algo.shipped import load_code
from liftquant.crosschecking import Settings, check_layer
from tests.cases import SHIPPED_SAMPLE


def as_matrix(bits: np.ndarray, name: str, weights: int) -> PackedMatrix:
    """Given bits as a matrix on axis ``in``, one row a stream."""
    scales = torch.ones(len(bits), dtype=torch.bfloat16)
    return PackedMatrix(load_code(name), "in", (len(bits), weights), pack_bits(bits), scales)


def test_every_codeword_of_lq_16_8_on_all_three(tmp_path: Path) -> None:
    """65 536 codewords, 256 to a stream, through reference, Verilator and kernel."""
    every = (np.arange(1 << 16)[:, None] >> np.arange(16) & 1).astype(np.uint8)
    matrix = as_matrix(every.reshape(256, -1), "LQ-16/8", 256 * 8)
    signs = every.astype(np.int64) * 2 - 1
    by_hand = (signs @ matrix.code.taps.astype(np.int64).T).reshape(256, -1)
    assert np.array_equal(decode_words(matrix.words, matrix.groups, matrix.code), by_hand)
    check = check_layer("codewords", matrix, Settings(lanes=8, seed=16), tmp_path)
    assert check.weights == 1 << 19
    assert check.passed, check


@pytest.mark.parametrize("name", SHIPPED_SAMPLE)
def test_extreme_and_random_words_on_all_three(name: str, tmp_path: Path) -> None:
    code = load_code(name)
    weights = 6 * code.group + 1  # the last group is partly unused
    n = stream_groups(weights, code) * code.lifted
    bits = np.random.default_rng(7).integers(0, 2, (12, n), np.uint8)
    bits[0], bits[1] = 0, 1
    matrix = as_matrix(bits, name, weights)
    settings = Settings(lanes=3, seed=7)
    check = check_layer(name, matrix, settings, tmp_path)
    assert check.passed, check
    bits_only = code.taps[:, : code.lifted + code.overlap].astype(np.int64).sum(1)
    parities = code.taps[:, code.lifted + code.overlap :].astype(np.int64)
    odd = [mask.bit_count() % 2 for mask in code.parities]  # an even mask is +1 for all zeros too
    zeros = -bits_only + (parities * np.where(odd, -1, 1)).sum(1)
    ones = bits_only + parities.sum(1)
    wanted = [np.tile(row, matrix.groups)[:weights] for row in (zeros, ones)]
    assert np.array_equal(matrix.accumulators()[:2], wanted)
