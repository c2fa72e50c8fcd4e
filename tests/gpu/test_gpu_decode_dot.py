"""Decode and multiply, and the dense product, against algo's integer layer and float64."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.activations import (
    integer_layer,
    integer_product,
    product_rounded_once,
    quantise_activations,
)
from algo.errors import LiftError
from algo.matrix import PackedMatrix
from algo.shipped import REFERENCE, load_code
from gpu import dense
from gpu.decode_dot import TILES, Tile, launch_digits, tile_for
from gpu.decode_dot_float import launch_float
from gpu.dense import decoded_rows, dense_digits, dense_float, rounded_once
from gpu.interpret import interpreter
from gpu.planes import laid_out
from gpu.tiles import NARROW, WIDE
from gpu.weights import MAX_DECODED_INNER, packed_weights
from tests.gpu.cases import packed_matrix, random_code

SEED = 32
# besides the codes that proofs run on: parities in cells, crossing bytes, and one table of 16 bits
CODES = (*REFERENCE, "LQ-12/5+9^12:3", "LQ-11/5+13^16", "LQ-2/1+14^16", "LQ-12/5+13^16:4")
SMALL = Tile(rows=16, columns=16, inner=32, warps=4, stages=1)


def matrix_of(rng, code, axis, shape, fill=None) -> PackedMatrix:
    rows, columns = shape
    streams, weights = shape if axis == "in" else (columns, rows)
    least = (-(-(code.lifted + code.overlap) // code.lifted) - 1) * code.group + 1
    return packed_matrix(rng, code, axis, streams, max(weights - least, 0), fill)


def random_digits(rng, per_token, tokens, inner, fill=None):
    shape = (per_token, tokens, inner)
    digits = rng.integers(-127, 128, shape) if fill is None else np.full(shape, fill)
    return torch.from_numpy(digits.astype(np.int8))


def steps(rng, tokens):
    return torch.from_numpy(rng.uniform(1e-3, 2, tokens).astype(np.float32))


def check_integers(run, rng, matrix, digits, tile=None):
    """Sums by the kernel and by the dense product, == to those of algo."""
    planes = laid_out(digits, steps(rng, digits.shape[1]), NARROW)
    want = torch.from_numpy(integer_product(matrix, digits))
    weights = packed_weights(matrix)
    assert torch.equal(launch_digits(run, weights, planes, torch.int64, tile), want)
    assert torch.equal(dense_digits(weights, planes, torch.int64), want)


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("name", CODES)
def test_kinds_of_codes(name, axis):
    rng = np.random.default_rng([SEED, *name.encode()])
    print("seed", SEED, name)
    with interpreter(checked=False) as run:
        for per_token, tokens, fill in ((1, 3, None), (2, 1, 127), (2, 17, -127)):
            matrix = matrix_of(rng, load_code(name), axis, (21, 77))
            digits = random_digits(rng, per_token, tokens, matrix.shape[1], fill)
            check_integers(run, rng, matrix, digits)
            check_integers(run, rng, matrix, digits, SMALL)


@pytest.mark.parametrize("bits", [0, 1])
@pytest.mark.parametrize("axis", ["in", "out"])
def test_no_integer_overflows_where_all_are_extreme(axis, bits):
    rng = np.random.default_rng(SEED)
    code = random_code(rng, 16, 8, 0, 3)  # every row of taps sums to 2047
    matrix = matrix_of(rng, code, axis, (17, 576), bits)
    with interpreter(checked=True) as run:
        for digit in (-128, -127, 127):
            check_integers(run, rng, matrix, random_digits(rng, 2, 3, 576, digit))


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("tokens", [1, 2, 3, 17, 31, 32, 33, 63, 64, 65])
def test_every_number_of_columns(tokens, axis):
    rng = np.random.default_rng([SEED, tokens])
    matrix = matrix_of(rng, random_code(rng, 12, 5, 9, 2), axis, (67, 130))
    with interpreter(checked=False) as run:
        check_integers(run, rng, matrix, random_digits(rng, 1, tokens, 130))
        check_integers(run, rng, matrix, random_digits(rng, 2, tokens, 130))


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 3), (3, 17), (17, 1), (1, 4099), (1536, 3), (4099, 1)]
)
@pytest.mark.parametrize("axis", ["in", "out"])
def test_odd_shapes(axis, shape):
    rng = np.random.default_rng([SEED, *shape])
    code = random_code(rng, 3, 2, 0, 0)  # streams of one weight are long enough for it
    matrix = matrix_of(rng, code, axis, shape)
    assert matrix.shape == shape
    with interpreter(checked=False) as run:
        check_integers(run, rng, matrix, random_digits(rng, 2, 2, shape[1]))


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_any_layer(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    geometry = data.draw(st.sampled_from([(24, 10, 0, 0), (12, 5, 9, 4), (32, 3, 0, 5)]))
    axis = data.draw(st.sampled_from(["in", "out"]))
    shape = data.draw(st.tuples(st.integers(1, 80), st.integers(1, 200)))
    matrix = matrix_of(rng, random_code(rng, *geometry), axis, shape)
    digits = random_digits(
        rng, data.draw(st.integers(1, 2)), data.draw(st.integers(1, 40)), matrix.shape[1]
    )
    with interpreter(checked=False) as run:
        check_integers(run, rng, matrix, digits, data.draw(st.sampled_from([*TILES, SMALL])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("digits", [1, 2])
def test_the_layer_is_rounded_once_and_the_bias_added(digits, axis, dtype):
    rng = np.random.default_rng(SEED)
    matrix = matrix_of(rng, random_code(rng, 12, 5, 9, 2), axis, (67, 131))
    x = torch.from_numpy(rng.normal(size=(19, 131)))
    x[4] = 0
    parts, step = quantise_activations(x, digits)
    planes = laid_out(parts, step, WIDE)
    exact = integer_layer(matrix, x, digits)
    with interpreter(checked=False) as run:
        for bias in (None, torch.from_numpy(rng.normal(size=67)).float()):
            weights = packed_weights(matrix, bias)
            want = (exact if bias is None else exact + bias).to(dtype)
            assert torch.equal(launch_digits(run, weights, planes, dtype), want)
            for most in (1, 131 * 16, 1 << 25):
                assert torch.equal(dense_digits(weights, planes, dtype, most), want)


def test_many_columns_take_fewer_rows_at_a_time(monkeypatch):
    weights = SimpleNamespace(columns=100, rows=70)
    monkeypatch.setattr(dense, "MOST_SUMS", 33 * 20)
    parts = list(dense._parts(weights, 1 << 25, 20))
    assert [(p.start, p.stop) for p in parts] == [(0, 32), (32, 64), (64, 70)]
    assert [(p.start, p.stop) for p in dense._parts(weights, 1 << 25, 1)] == [(0, 70)]


def test_the_dense_product_is_rounded_once_near_ties():
    rng = np.random.default_rng(SEED)
    ties = rng.integers(1 << 23, 1 << 24, 5000) * 2.0 + 1  # halfway between two float32s
    b = rng.uniform(1, 2, 5000).astype(np.float32).astype(np.float64)
    a = ties / b * rng.choice([-1, 1], 5000)
    want = torch.from_numpy(product_rounded_once(a, b))
    a, b = torch.from_numpy(a), torch.from_numpy(b)
    assert torch.equal(rounded_once(a, b), want)
    assert not torch.equal((a * b).float(), want)  # control: a second rounding would show


def float_bound(matrix, x, bias):
    """The bound that `gpu.decode_dot` states, in float64, and the exact outputs."""
    weights = matrix.dequantise().double()
    inner = weights.shape[1]
    exact = x.double() @ weights.T
    w, u = 2 * inner * 2.0**-23, 2.0**-24
    v = 2.0**-11 if x.dtype == torch.float16 else 2.0**-8
    spread = w / (1 - w) * (x.double().abs() @ weights.abs().T)
    inside = (1 + u) * spread + 2 * u * (exact.abs() + bias.double().abs())
    exact = exact + bias.double()
    tiny = 2.0**-25 if x.dtype == torch.float16 else 0.0  # half of the smallest float16
    return exact, (1 + v) * inside + v * exact.abs() + tiny


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("name", ["LQ-24/10", "LQ-2/1+10^12", "LQ-11/5+13^16"])
def test_floats_are_within_the_stated_bound(name, axis, dtype):
    rng = np.random.default_rng([SEED, *name.encode()])
    matrix = matrix_of(rng, load_code(name), axis, (35, 577))
    bias = torch.from_numpy(rng.normal(size=matrix.shape[0])).float()
    weights = packed_weights(matrix, bias)
    wide = torch.from_numpy(rng.normal(size=(9, 2 * matrix.shape[1]))).to(dtype)
    x = wide[:, ::2]  # not contiguous
    exact, bound = float_bound(matrix, x, bias)
    with interpreter(checked=False) as run:
        got = launch_float(run, weights, x, widen=True)
        again = launch_float(run, weights, x.contiguous(), SMALL, widen=True)
    assert got.dtype == dtype
    assert ((got.double() - exact).abs() <= bound).all()
    assert ((again.double() - exact).abs() <= bound).all()
    # control: one weight off by one step is far out of it where the scale is not tiny
    row = int(matrix.scales.float().abs().argmax())
    off = weights._replace(scales=weights.scales * (1 + 2.0**-5))
    with interpreter(checked=False) as run:
        wrong = launch_float(run, off, x, widen=True)
    assert ((wrong.double() - exact).abs() > bound)[:, row].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("axis", ["in", "out"])
def test_on_the_identity_it_is_the_decoded_weights(axis, dtype):
    rng = np.random.default_rng(SEED)
    matrix = matrix_of(rng, random_code(rng, 12, 5, 9, 4), axis, (35, 47))
    weights = packed_weights(matrix)
    identity = torch.eye(matrix.shape[1], dtype=dtype)
    want = matrix.dequantise().to(dtype).T
    with interpreter(checked=False) as run:
        assert torch.equal(launch_float(run, weights, identity, widen=True), want)
    for most in (1, 47 * 10, 1 << 25):
        assert torch.equal(dense_float(weights, identity, most), want)


@pytest.mark.parametrize("axis", ["in", "out"])
def test_rows_are_decoded_in_parts(axis):
    rng = np.random.default_rng(SEED)
    matrix = matrix_of(rng, random_code(rng, 12, 5, 9, 4), axis, (35, 47))
    weights = packed_weights(matrix)
    part = slice(13, 31)
    got = decoded_rows(weights, part, torch.int16, scaled=False)
    assert np.array_equal(got.numpy(), matrix.accumulators()[part])
    from gpu.decode import decode_kernel, launch

    with interpreter(checked=False) as run:
        kept = (weights.words, 18) if axis == "out" else (weights.words[part], 47)
        got = launch(
            run(decode_kernel), kept[0], weights.tables, torch.int16, kept[1], axis,
            first=13 if axis == "out" else 0,
        )  # fmt: skip
    assert np.array_equal(got.numpy(), matrix.accumulators()[part])


def test_no_tokens_are_no_outputs():
    rng = np.random.default_rng(SEED)
    weights = packed_weights(matrix_of(rng, random_code(rng, 16, 8, 0, 0), "in", (3, 9)))
    x = torch.zeros((0, 9), dtype=torch.float16)
    planes = laid_out(torch.zeros((2, 0, 9), dtype=torch.int8), torch.zeros(0), NARROW)
    with interpreter(checked=False) as run:
        assert launch_float(run, weights, x).shape == (0, 3)
        assert launch_digits(run, weights, planes, torch.float32).shape == (0, 3)
    assert dense_float(weights, x).shape == (0, 3)
    assert dense_digits(weights, planes, torch.float32).shape == (0, 3)


def test_the_widest_layer_and_the_first_that_is_refused():
    assert 64 * 128 * MAX_DECODED_INNER <= 2**31 - 1 < 64 * 128 * (MAX_DECODED_INNER + 1)
    code = random_code(np.random.default_rng(SEED), 16, 8, 0, 0)
    words = np.zeros((MAX_DECODED_INNER + 1, 1), np.uint32)
    scales = torch.ones(8, dtype=torch.bfloat16)
    wide = PackedMatrix(code, "out", (8, MAX_DECODED_INNER + 1), words, scales)
    with pytest.raises(LiftError, match="262144 inputs are over 262143"):
        packed_weights(wide)
    fits = PackedMatrix(code, "out", (8, MAX_DECODED_INNER), words[1:], scales)
    assert packed_weights(fits).columns == MAX_DECODED_INNER


def test_one_wrong_digit_changes_its_column_by_its_weights():
    rng = np.random.default_rng(SEED)
    matrix = matrix_of(rng, random_code(rng, 24, 10, 0, 0), "out", (33, 70))
    digits = random_digits(rng, 1, 5, 70)
    digits[0, 3, 69] = 5
    weights = packed_weights(matrix)
    with interpreter(checked=False) as run:
        before = launch_digits(run, weights, laid_out(digits, steps(rng, 5), WIDE), torch.int64)
        digits[0, 3, 69] = 6
        after = launch_digits(run, weights, laid_out(digits, steps(rng, 5), WIDE), torch.int64)
    expected = np.zeros((5, 33), np.int64)
    expected[3] = matrix.accumulators()[:, 69]
    assert expected.any()
    assert np.array_equal((after - before).numpy(), expected)


def test_tiles_by_columns():
    assert [tile_for(n).columns for n in (1, 16, 17, 32, 33, 64, 65)] == [
        16,
        16,
        32,
        32,
        64,
        64,
        64,
    ]


def test_wrong_arguments_are_named():
    rng = np.random.default_rng(SEED)
    matrix = matrix_of(rng, random_code(rng, 16, 8, 0, 0), "in", (3, 9))
    weights = packed_weights(matrix)
    planes = laid_out(torch.zeros((1, 2, 9), dtype=torch.int8), torch.ones(2), NARROW)
    with pytest.raises(LiftError, match="4 digits per token are neither 1"):
        dense_digits(weights, planes._replace(per_token=4), torch.float32)
    with pytest.raises(LiftError, match=r"int64, not torch\.int32"):
        dense_digits(weights, planes, torch.int32)
    with pytest.raises(LiftError, match=r"steps are torch\.float64"):
        dense_digits(weights, planes._replace(step=torch.ones(2).double()), torch.float32)
    with pytest.raises(LiftError, match=r"planes are torch\.int8 of shape \(8, 1, \d+\); 2 col"):
        dense_digits(weights, planes._replace(planes=planes.planes[:, :1]), torch.float32)
    short = planes._replace(planes=planes.planes[:, :, :4])
    with pytest.raises(LiftError, match="planes of 4 bytes are no multiple of the 8 of a step"):
        launch_digits(lambda kernel: kernel, weights, short, torch.float32)
    with pytest.raises(LiftError, match="are on meta and weights on cpu; move them"):
        dense_digits(weights, planes._replace(planes=planes.planes.to("meta")), torch.float32)
    with pytest.raises(LiftError, match=r"activations are torch\.float32"):
        dense_float(weights, torch.zeros((2, 9)))
    with pytest.raises(LiftError, match=r"shape \(2, 8\); the layer needs \(tokens, 9\)"):
        dense_float(weights, torch.zeros((2, 8), dtype=torch.float16))
    with pytest.raises(LiftError, match=r"a bias of shape \(4,\) does not fit 3 rows"):
        packed_weights(matrix, torch.zeros(4))
