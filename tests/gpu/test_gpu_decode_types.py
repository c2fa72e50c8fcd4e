"""Every type that weights are decoded to, on both axes, against algo's packed matrix."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.errors import LiftError
from algo.packing import extend_words
from algo.shipped import shipped_codes
from gpu.decode import Tile, decode_kernel, launch
from gpu.interpret import interpreter
from gpu.ops import decode
from gpu.tables import INTEGER_TYPES, REAL_TYPES, check_decode, code_tables
from tests.gpu.cases import GEOMETRIES, packed_matrix, random_code

SEED = 31
SMALL = Tile(streams=4, weights=64, warps=4)


def row_scales(matrix):
    return matrix.scales.float() * 2.0**-matrix.code.exponent


def extended(matrix):
    return torch.from_numpy(extend_words(matrix.words, matrix.groups, matrix.code))


def by_kernel(matrix, dtype, scales=None, tile=SMALL, words=None):
    with interpreter(checked=False) as run:
        return kernel_of(run, tile)(matrix, dtype, scales, words)


def kernel_of(run, tile=SMALL):
    def decoded(matrix, dtype, scales=None, words=None):
        words, tables = extended(matrix) if words is None else words, tables_of(matrix.code)
        kept = matrix.stream_weights
        check_decode(words, tables, matrix.groups, dtype, kept, matrix.axis, scales)
        return launch(run(decode_kernel), words, tables, dtype, kept, matrix.axis, scales, tile)

    return decoded


tables_of = cache(code_tables)


def by_torch(matrix, dtype, scales=None):
    return decode(
        extended(matrix), code_tables(matrix.code), matrix.groups, dtype,
        matrix.stream_weights, matrix.axis, scales,
    )  # fmt: skip


def joined(planes, dtype):
    """The accumulators of two planes, whose parts are within their bounds."""
    low, high = planes.to(torch.int32)
    assert torch.equal(planes.to(torch.int32).to(planes.dtype), planes)  # integers
    if dtype == torch.int8:
        assert low.min() >= -64
        assert low.max() <= 63
        assert high.abs().max() <= 16
        return low + 128 * high
    assert low.min() >= -8
    assert low.max() <= 7
    assert not (high % 16).any()
    return low + high


def check_all_types(matrix, decoded):
    want = torch.from_numpy(np.ascontiguousarray(matrix.accumulators())).to(torch.int32)
    for dtype in INTEGER_TYPES:
        got = decoded(matrix, dtype)
        assert got.dtype == dtype
        assert got.is_contiguous()
        whole = joined(got, dtype) if got.ndim == 3 else got.to(torch.int32)
        assert torch.equal(whole, want), dtype
    for dtype in REAL_TYPES:
        got = decoded(matrix, dtype, row_scales(matrix))
        assert got.dtype == dtype
        assert torch.equal(got, matrix.dequantise().to(dtype)), dtype


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("name", shipped_codes())
def test_every_shipped_code_to_every_type(name, axis):
    rng = np.random.default_rng([SEED, *name.encode()])
    print("seed", SEED, name)
    with interpreter(checked=False) as run:
        check_all_types(packed_matrix(rng, shipped_codes()[name].code, axis, 3), kernel_of(run))


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_extreme_taps_and_streams_by_kernel_and_torch(geometry, axis):
    rng = np.random.default_rng([SEED, *geometry])
    code = random_code(rng, *geometry)
    for fill in (None, 0, 1):
        matrix = packed_matrix(rng, code, axis, 5, fill=fill)
        check_all_types(matrix, by_torch)
        with interpreter(checked=True) as run:
            check_all_types(matrix, kernel_of(run))


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_any_shape_of_matrix_and_tile(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    code = random_code(rng, *data.draw(st.sampled_from(GEOMETRIES)))
    axis = data.draw(st.sampled_from(["in", "out"]))
    streams = data.draw(st.sampled_from([1, 2, 3, 17, 65]))
    matrix = packed_matrix(rng, code, axis, streams, data.draw(st.integers(0, 120)))
    tile = Tile(*data.draw(st.sampled_from([(2, 64), (64, 16), (1, 512)])), 4)
    want = matrix.accumulators()
    assert np.array_equal(by_kernel(matrix, torch.int16, tile=tile).numpy(), want)
    assert np.array_equal(by_torch(matrix, torch.int16).numpy(), want)


@pytest.mark.parametrize("axis", ["in", "out"])
def test_words_at_any_distance_are_read_where_they_lie(axis):
    rng = np.random.default_rng(SEED)
    matrix = packed_matrix(rng, random_code(rng, 12, 5, 9, 2), axis, 17, 40)
    words = extended(matrix)
    count, length = words.shape
    room = torch.full((count, length + 5), -1, dtype=torch.int32).view(torch.uint32)
    room[:, 2 : 2 + length] = words
    longer = room[:, 2 : 2 + length]
    every_other = torch.stack([words, words.flip(0)], dim=1)[:, 0]
    turned = words.t().contiguous().t()
    assert longer.stride() == (length + 5, 1)
    assert every_other.stride() == (2 * length, 1)
    assert turned.stride(1) == count
    for view in (longer, every_other, turned):
        got = by_kernel(matrix, torch.int16, words=view)
        assert np.array_equal(got.numpy(), matrix.accumulators())


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("dtype", INTEGER_TYPES, ids=str)
def test_no_streams_are_an_empty_matrix(dtype, axis):
    code = random_code(np.random.default_rng(SEED), 16, 8, 0, 0)
    words = torch.zeros((0, 2), dtype=torch.int32)
    shape = (0, 13) if axis == "in" else (13, 0)
    wanted = (2, *shape) if dtype in (torch.int8, torch.bfloat16) else shape
    assert decode(words, code_tables(code), 2, dtype, 13, axis).shape == wanted
    with interpreter(False) as run:
        out = launch(run(decode_kernel), words, code_tables(code), dtype, 13, axis)
    assert out.shape == wanted


def test_a_real_weight_is_rounded_to_even_once():
    """With a scale of 1 + 2**-7, the product of 2047 lies between two bfloat16s, and float16s."""
    rng = np.random.default_rng(SEED)
    matrix = packed_matrix(rng, random_code(rng, 24, 10, 0, 0), "in", 7, 100)
    scales = torch.full((7,), 1.0 + 2.0**-7) * 2.0 ** torch.arange(-24, -10, 2)
    exact = torch.from_numpy(matrix.accumulators().copy()).double() * scales.double()[:, None]
    for dtype in REAL_TYPES:
        got = by_kernel(matrix, dtype, scales)
        assert torch.equal(got, exact.to(dtype))
        assert torch.equal(by_torch(matrix, dtype, scales), got)
    assert not torch.equal(exact.to(torch.float16).double(), exact)  # control: it does round
    assert (exact.to(torch.float16).abs() < 2**-14).any()  # control: some are subnormal


def test_one_wrong_sum_in_a_table_changes_the_weights_that_read_it():
    rng = np.random.default_rng(SEED)
    matrix = packed_matrix(rng, random_code(rng, 24, 10, 0, 0), "in", 40, 499)
    words, tables = extended(matrix), code_tables(matrix.code)
    cells = tables.cells.clone()
    cells[1, 3, 77] += 1
    with interpreter(False) as run:
        wrong = launch(
            run(decode_kernel), words, tables._replace(cells=cells), torch.int16, 500, tile=SMALL
        )
    window_byte = extended(matrix).numpy().view(np.uint8)[:, 1 : 3 * matrix.groups : 3]
    expected = np.zeros((40, matrix.groups, 10), np.int16)
    expected[:, :, 3] = window_byte == 77
    assert expected.any()
    difference = wrong.numpy() - matrix.accumulators()
    assert np.array_equal(difference, expected.reshape(40, -1)[:, :500])


def test_wrong_types_scales_and_counts_are_named():
    code = random_code(np.random.default_rng(SEED), 16, 8, 0, 0)
    tables, words = code_tables(code), torch.zeros((2, 3), dtype=torch.int32)
    scales = torch.ones(2)
    with pytest.raises(LiftError, match=r"float16, bfloat16, float32 with scales, not torch.int8"):
        decode(words, tables, 4, torch.int8, scales=scales)
    with pytest.raises(
        LiftError, match=r"scales are torch.float32 of shape \(2,\); need .*\(32,\)"
    ):
        decode(words, tables, 4, torch.float16, axis="out", scales=scales)
    with pytest.raises(LiftError, match=r"scales are torch.bfloat16 of shape"):
        decode(words, tables, 4, torch.float16, scales=scales.bfloat16())
    with pytest.raises(LiftError, match=r"24 weights per stream .* it must be 25 to 32"):
        decode(words, tables, 4, weights=24)
    with pytest.raises(LiftError, match=r"33 weights per stream .* it must be 25 to 32"):
        decode(words, tables, 4, weights=33)
    with pytest.raises(LiftError, match="axis 'rows' is none of in, out"):
        decode(words, tables, 4, axis="rows")
    with pytest.raises(LiftError, match=r"cells are torch.int16 of shape \(2, 8, 128\)"):
        decode(words, tables._replace(cells=tables.cells[:, :, :128]), 4)
    with pytest.raises(LiftError, match=r"turns are torch.int32 of shape \(1, 256\)"):
        decode(words, tables._replace(turns=tables.turns[1:]), 4)
    with pytest.raises(
        LiftError, match=r"crossing parities are torch.int16 of shape \(0, 8, 128\)"
    ):
        decode(words, tables._replace(crossing=tables.crossing[:, :, :128]), 4)
    with pytest.raises(LiftError, match="cpu and meta; move them to one device"):
        decode(words, tables._replace(cells=tables.cells.to("meta")), 4)
