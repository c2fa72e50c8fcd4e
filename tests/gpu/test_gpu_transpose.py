"""Streams out of the one-bit matrix, against algo's packing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.errors import LiftError
from algo.packing import extend_words, pack_bits, transpose_words
from gpu import build, transpose
from gpu.interpret import interpreter
from gpu.transpose import stream_words
from tests.cases import least_groups
from tests.gpu.cases import random_code

SEED = 27


def turned(matrix, streams, bits, overlap):
    with interpreter(checked=True) as run:
        return stream_words(run, matrix, streams, bits, overlap).numpy().view(np.uint32)


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    geometry=st.sampled_from([(2, 1, 10, 0), (12, 5, 9, 0), (24, 10, 0, 0), (2, 1, 10, 5)]),
    count=st.sampled_from([1, 3, 17, 31, 32, 33, 1025]),
    extra=st.integers(0, 20),
    stride=st.integers(0, 3),
)
def test_equals_the_stored_streams_extended(seed, geometry, count, extra, stride):
    rng = np.random.default_rng(seed)
    code = random_code(rng, *geometry)
    groups = least_groups(code) + extra
    bits = groups * code.lifted
    words = pack_bits(rng.integers(0, 2, (count, bits), dtype=np.uint8))
    matrix = transpose_words(words, bits).view(np.int32)
    wide = torch.full((bits, matrix.shape[1] + stride), -1, dtype=torch.int32)
    wide[:, : matrix.shape[1]] = torch.from_numpy(matrix)
    got = turned(wide[:, : matrix.shape[1]], count, bits, code.overlap)
    assert np.array_equal(got, extend_words(words, groups, code))


@pytest.mark.parametrize("bit", [0, 1])
def test_all_zeros_and_all_ones(bit):
    words = pack_bits(np.full((40, 77), bit, np.uint8))
    matrix = torch.from_numpy(transpose_words(words, 77).view(np.int32))
    got = turned(matrix, 40, 77, 0)
    assert np.array_equal(got[:, :3], words)
    assert not got[:, 3].any()


def test_one_bit_ends_up_in_one_place():
    matrix = torch.zeros((70, 2), dtype=torch.int32)
    matrix[37, 1] = -(2**31)  # bit 31: stream 63
    got = turned(matrix, 64, 70, 6)
    assert got[63, 1] == 1 << 5
    assert np.count_nonzero(got) == 1


def test_what_does_not_fit_is_refused():
    matrix = torch.zeros((70, 2), dtype=torch.int32)
    with pytest.raises(LiftError, match=r"int32 of 71 rows"):
        turned(matrix, 64, 71, 0)
    with pytest.raises(LiftError, match=r"rows of 2 words, 1 apart, cannot hold 65 streams"):
        turned(matrix, 65, 70, 0)
    with pytest.raises(LiftError, match=r"rows of 1 words, 2 apart"):
        turned(matrix[:, ::2], 32, 70, 0)
    with pytest.raises(LiftError, match=r"overlap of 71 bits is longer than a stream of 70"):
        turned(matrix, 64, 70, 71)
    assert turned(matrix, 0, 70, 0).shape == (0, 4)


@pytest.mark.parametrize("target", build.TARGETS)
def test_it_compiles_without_spills(target):
    (job,) = transpose.jobs()
    assert build.compile_one(job, target).spills == 0
