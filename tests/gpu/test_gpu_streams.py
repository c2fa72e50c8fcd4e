"""Streams for decoding out of a stack, against algo's packing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.errors import LiftError
from algo.packing import extend_words, pack_bits
from gpu.interpret import interpreter
from gpu.stack import stack_layers
from gpu.streams import continued, segment_weights
from gpu.tables import code_tables
from gpu.weights import packed_weights
from tests.cases import least_groups
from tests.gpu.cases import random_code
from tests.gpu.layers import layer

SEED = 29


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    geometry=st.sampled_from(
        [(2, 1, 10, 0), (12, 5, 9, 0), (24, 10, 0, 0), (3, 1, 9, 0), (1, 1, 15, 0)]
    ),
    extra=st.integers(0, 40),
    padding=st.integers(0, 4),
)
def test_continued_as_the_contract_extends(seed, geometry, extra, padding):
    rng = np.random.default_rng(seed)
    code = random_code(rng, *geometry)
    groups = least_groups(code) + extra
    words = pack_bits(rng.integers(0, 2, (3, groups * code.lifted), dtype=np.uint8))
    held = np.pad(words, ((0, 0), (0, padding))).view(np.int32)
    got = continued(torch.from_numpy(held), groups * code.lifted, code.overlap)
    assert np.array_equal(got.numpy().view(np.uint32), extend_words(words, groups, code))


def test_all_ones_continue_as_ones():
    words = torch.full((1, 1), (1 << 30) - 1, dtype=torch.int32)
    got = continued(words, 30, 9).numpy().view(np.uint32)
    assert got.tolist() == [[2**32 - 1, 127, 0]]


def test_what_cannot_be_continued_is_refused():
    words = torch.zeros((1, 2), dtype=torch.int32)
    with pytest.raises(LiftError, match=r"streams of 65 bits need int32 \(streams, 3 or more\)"):
        continued(words, 65, 0)
    with pytest.raises(LiftError, match="overlap of 33 bits of 64; at most 32"):
        continued(words, 64, 33)


@pytest.mark.parametrize("axis", ["in", "out"])
def test_a_stack_decodes_as_its_layers_do(axis):
    print("seed", SEED)
    rng = np.random.default_rng([SEED, axis == "in"])
    codes = [random_code(rng, 12, 5, 9, 0)] * 2
    if axis == "out":
        codes[1] = random_code(rng, 2, 1, 6, 0)
    matrices = [layer(rng, c, axis, (n, 77)) for c, n in zip(codes, (33, 50), strict=True)]
    stack = stack_layers(matrices, 1)
    with interpreter(checked=True) as run:
        for matrix, segment in zip(matrices, stack.rows(), strict=True):
            got = segment_weights(run, stack, segment, code_tables(matrix.code), 77)
            want = packed_weights(matrix)
            assert torch.equal(got.words, want.words)
            assert torch.equal(got.scales, want.scales)
            assert (got.rows, got.columns, got.axis) == (want.rows, want.columns, want.axis)


def test_too_many_inputs_to_sum_decoded_weights_are_refused():
    rng = np.random.default_rng(SEED)
    code = random_code(rng, 2, 1, 6, 0)
    stack = stack_layers([layer(rng, code, "out", (8, 77))], 1)
    with pytest.raises(LiftError, match="262144 inputs are over 262143"):
        segment_weights(lambda kernel: kernel, stack, stack.rows()[0], code_tables(code), 262_144)
