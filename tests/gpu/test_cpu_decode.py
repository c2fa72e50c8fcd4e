"""Decoding on the CPU, against the oracle and against the plain operator."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo.packing import extend_words
from gpu import reference
from gpu.cpu.decode import decode
from gpu.tables import INTEGER_TYPES, REAL_TYPES, code_tables
from tests.gpu.cases import GEOMETRIES, packed_matrix, random_code


@given(
    st.sampled_from(GEOMETRIES),
    st.sampled_from(["in", "out"]),
    st.sampled_from([1, 3, 17]),
    st.integers(0, 70),
    st.sampled_from([None, 0, 1]),
    st.integers(0, 2**32 - 1),
)
def test_integers_are_the_oracles(geometry, axis, streams, extra, fill, seed):
    rng = np.random.default_rng(seed)
    matrix = packed_matrix(rng, random_code(rng, *geometry), axis, streams, extra, fill)
    words = torch.from_numpy(extend_words(matrix.words, matrix.groups, matrix.code))
    tables = code_tables(matrix.code)
    out = decode(words, tables, torch.int16, matrix.stream_weights, axis, None)
    assert out.is_contiguous()
    assert np.array_equal(out.numpy(), matrix.accumulators())


def test_it_is_on_the_cpu_whatever_device_is_the_default():
    rng = np.random.default_rng(7)
    matrix = packed_matrix(rng, random_code(rng, 12, 5, 9, 4), "in", 3, 41)
    words = torch.from_numpy(extend_words(matrix.words, matrix.groups, matrix.code))
    tables = code_tables(matrix.code)
    with torch.device("meta"):
        out = decode(words, tables, torch.int16, matrix.stream_weights, "in", None)
    assert np.array_equal(out.numpy(), matrix.accumulators())


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("scaled", [False, True])
def test_every_type_is_the_plain_operators(axis, scaled):
    rng = np.random.default_rng(6)
    matrix = packed_matrix(rng, random_code(rng, 12, 5, 9, 4), axis, 17, 41)
    words = torch.from_numpy(extend_words(matrix.words, matrix.groups, matrix.code))
    tables, weights = code_tables(matrix.code), matrix.stream_weights
    scales = torch.randn(matrix.shape[0]) if scaled else None
    for dtype in REAL_TYPES if scaled else INTEGER_TYPES:
        out = decode(words, tables, dtype, weights, axis, scales)
        plain = reference.decode(words, tables, matrix.groups, dtype, weights, axis, scales)
        assert out.dtype == plain.dtype
        assert out.is_contiguous()
        assert torch.equal(out, plain)
