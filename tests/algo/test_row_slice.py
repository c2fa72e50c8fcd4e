"""Rows of a matrix as a smaller matrix, against the same rows of the whole one's integers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo.errors import LiftError
from algo.matrix import AXES, Axis, PackedMatrix, row_slice
from algo.packing import pack_bits
from tests.conftest import CODES, random_bits

_LEAST = 12  # rows or columns: enough for a window of every code


def random_matrix(name: str, axis: Axis, shape: tuple[int, int], seed: int) -> PackedMatrix:
    code = CODES[name]
    streams, weights = shape if axis == "in" else shape[::-1]
    bits = random_bits(streams, -(-weights // code.group) * code.lifted, seed)
    scales = 1 + torch.rand(shape[0], generator=torch.Generator().manual_seed(seed))
    return PackedMatrix(code, axis, shape, pack_bits(bits), scales.to(torch.bfloat16))


def check(matrix: PackedMatrix, start: int, stop: int) -> PackedMatrix:
    """That the rows decode to the same, and the others have no scale."""
    small, offset = row_slice(matrix, start, stop)
    kept = slice(offset, offset + stop - start)
    assert (small.code, small.axis, small.shape[1]) == (matrix.code, matrix.axis, matrix.shape[1])
    assert np.array_equal(small.accumulators()[kept], matrix.accumulators()[start:stop])
    assert torch.equal(small.scales[kept], matrix.scales[start:stop])
    assert int(small.scales.count_nonzero()) == stop - start
    assert torch.equal(small.dequantise()[kept], matrix.dequantise()[start:stop])
    return small


@given(
    name=st.sampled_from(sorted(CODES)),
    axis=st.sampled_from(AXES),
    rows=st.integers(_LEAST, 90),
    columns=st.sampled_from([_LEAST, 17, 33]),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_any_rows_decode_to_the_same_integers(
    name: str, axis: Axis, rows: int, columns: int, seed: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, rows - 1))
    stop = data.draw(st.integers(start + 1, rows))
    check(random_matrix(name, axis, (rows, columns), seed), start, stop)


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize(
    ("axis", "shape"), [("in", (576, 17)), ("out", (576, 3)), ("out", (4099, 1)), ("in", (3, 1536))]
)
def test_the_first_the_last_one_and_all_rows(name: str, axis: Axis, shape: tuple[int, int]) -> None:
    matrix = random_matrix(name, axis, shape, 1)
    rows = shape[0]
    for start, stop in ((0, 1), (rows - 1, rows), (0, rows), (rows // 2, rows), (0, rows - 1)):
        check(matrix, start, stop)


def test_shares_of_a_large_matrix_are_about_as_large_as_they_should_be() -> None:
    matrix = random_matrix("LQ-12/5+9", "out", (1536, 3), 2)
    for start in range(0, 1536, 384):
        small = check(matrix, start, start + 384)
        # its groups, part of one more at each end, and one more that the windows reach into
        assert small.groups <= 384 // 5 + 3
        assert small.shape[0] <= 384 + 2 * 5 + 1


def test_where_windows_reach_all_groups_the_matrix_stays_whole() -> None:
    matrix = random_matrix("LQ-2/1+10", "out", (_LEAST, 5), 3)
    small, offset = row_slice(matrix, 2, 9)
    assert (small.shape, offset) == (matrix.shape, 2)
    assert np.array_equal(small.words, matrix.words)
    check(matrix, 2, 9)


def test_a_slice_of_a_slice_is_a_slice() -> None:
    matrix = random_matrix("LQ-5/2+4^2", "out", (101, 7), 4)
    part, offset = row_slice(matrix, 11, 90)
    again, further = row_slice(part, offset + 20, offset + 31)
    rows = again.accumulators()[further : further + 11]
    assert np.array_equal(rows, matrix.accumulators()[31:42])


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 3), (4, 3), (30, 41)])
def test_rows_that_are_not_there_are_refused(axis: Axis, start: int, stop: int) -> None:
    matrix = random_matrix("LQ-3/2", axis, (40, 20), 5)
    with pytest.raises(LiftError, match=f"rows {start} to {stop} are no part of a matrix of 40"):
        row_slice(matrix, start, stop)
