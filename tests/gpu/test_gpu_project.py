"""The projection of one-bit sums, under the interpreter, against the integer layer, bit for bit."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.activations import product_rounded_once
from algo.code import LiftCode
from algo.errors import LiftError
from algo.lifted import project
from algo.matrix import AXES
from gpu import build
from gpu.interpret import interpreted, interpreter
from gpu.project import (
    DTYPES,
    NARROW,
    WIDE,
    Tile,
    jobs,
    launch,
    narrowed,
    programs,
    rounded_once,
    tile_for,
)
from gpu.stack import stack_layers
from tests.conftest import CODES
from tests.gpu.layers import SEED, bits_of, columns, expected, layer, one_bit_sums, three


@triton.jit
def rounding_kernel(a, b, out, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out + at, rounded_once(tl.load(a + at), tl.load(b + at).to(tl.float64)))


@triton.jit
def narrowing_kernel(x, out, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out + at, narrowed(tl.load(x + at), out.dtype.element_ty))


def rounded(a, b):
    out = torch.empty(len(a), dtype=torch.float32)
    with np.errstate(over="ignore"), interpreted(rounding_kernel, checked=True) as kernel:
        kernel[(1,)](torch.tensor(a, dtype=torch.float64), torch.tensor(b), out, N=len(a))
    return out.numpy()


def projected(stack, sums, step, dtype=torch.float32, tile=WIDE, checked=False):
    with interpreter(checked) as run:
        return launch(run, stack, programs(stack, tile), sums, step, dtype, tile)


@pytest.mark.parametrize(
    ("tokens", "tile"),
    [(0, WIDE), (1, NARROW), (1, WIDE), (3, NARROW), (3, Tile(64, 2, 1)), (17, WIDE)],
)
@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize("axis", AXES)
def test_stacks_equal_the_integer_layers(axis, digits, tokens, tile):
    matrices, biases = three(axis)
    stack = stack_layers(matrices, digits, biases)
    x = torch.from_numpy(np.random.default_rng([SEED, tokens]).standard_normal((tokens, 77)))
    operand, step = columns(matrices, stack, x, digits)
    sums = one_bit_sums(matrices, operand)
    for dtype in DTYPES:
        got = projected(stack, sums, step, dtype, tile, checked=tokens == 3)
        want = expected(matrices, x, digits, biases, dtype)
        assert got.dtype == dtype
        assert got.shape == (tokens, 220)
        assert torch.equal(bits_of(got), bits_of(want))


@pytest.mark.parametrize("name", [n for n, code in CODES.items() if not code.parities])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("rows", [32, 57])
def test_every_geometry(name, axis, rows):
    rng = np.random.default_rng([SEED, rows])
    shape = (rows, 33)
    matrix = layer(rng, CODES[name], axis, shape)
    stack = stack_layers([matrix], 2)
    x = torch.from_numpy(rng.standard_normal((2, shape[1])))
    operand, step = columns([matrix], stack, x, 2)
    got = projected(stack, one_bit_sums([matrix], operand), step, tile=NARROW)
    assert torch.equal(bits_of(got), bits_of(expected([matrix], x, 2, [None], torch.float32)))


@pytest.mark.parametrize("bit", [0, 1])
@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize("axis", AXES)
def test_extremes(axis, digits, bit):
    matrices, biases = three(axis, bit)
    stack = stack_layers(matrices, digits, biases)
    x = torch.ones(4, 77, dtype=torch.float64)
    x[1], x[2], x[3, ::2] = -1, 0, -1
    operand, step = columns(matrices, stack, x, digits)
    got = projected(stack, one_bit_sums(matrices, operand), step, checked=True)
    want = expected(matrices, x, digits, biases, torch.float32)
    assert torch.equal(bits_of(got), bits_of(want))


def test_projected_sums_wider_than_32_bits():
    rng = np.random.default_rng(SEED)
    code = LiftCode(16, 1, 0, (16,), np.full((1, 16), 127, np.int8), 6)
    matrix = layer(rng, code, "out", (5, 9))
    matrix.scales.fill_(1)
    stack = stack_layers([matrix], 2)
    sums = rng.choice([-1, 1], (80, 2)).astype(np.int64) * (127 * 1_000_000)
    sums[16:32], sums[32:48] = 127_000_000, -127_000_000
    got = projected(stack, torch.from_numpy(sums.astype(np.int32)), torch.ones(1), checked=True)
    exact = project(sums, code, 5)
    assert np.abs(exact).max() == 2032 * 127_000_000 > 2**31
    combined = exact[:, 0] + 128 * exact[:, 1]
    assert np.array_equal(got[0].numpy(), (combined / 64).astype(np.float32))


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 2**32 - 1))
def test_products_are_rounded_once(seed):
    rng = np.random.default_rng(seed)
    integers = rng.integers(-(2**45), 2**45, 512) >> rng.integers(0, 45, 512)
    scales = torch.from_numpy(rng.standard_normal(512)).to(torch.bfloat16).double().numpy()
    a = integers * scales * 2.0 ** rng.integers(-100, 60, 512)
    b = (rng.standard_normal(512) * 2.0 ** rng.integers(-140, 60, 512)).astype(np.float32)
    with np.errstate(over="ignore"):
        want = product_rounded_once(a, b.astype(np.float64))
    assert np.array_equal(rounded(a, b).view(np.int32), want.view(np.int32))


def test_products_next_to_a_tie():
    rng = np.random.default_rng(SEED)
    a, b, want = [], [], []
    while len(a) < 512:
        factor, off = int(rng.integers(2**22, 2**23)) * 2 + 1, int(rng.integers(-(2**14), 2**14))
        other = (2**44 + off) * pow(factor, -1, 2**45) % 2**45
        # the product is `off` from half a unit of float32, less than float64 can tell
        if off and 2**68 <= other * factor < 2**69:
            sign = int(rng.choice([-1, 1]))
            a.append(float(sign * other))
            b.append(float(factor))
            want.append(sign * (other * factor // 2**45 + (off > 0)) * 2.0**45)
    b = np.array(b, np.float32)
    assert rounded(np.array(a), b).tolist() == want
    assert product_rounded_once(np.array(a), b.astype(np.float64)).tolist() == want
    assert (np.array(a) * b.astype(np.float64)).astype(np.float32).tolist() != want


def test_zeros_keep_their_sign_and_nan_stays():
    got = rounded(np.array([0.0, -0.0, 1.0, -0.0]), np.array([1, 1, np.nan, np.nan], np.float32))
    assert got[:2].tolist() == [0, 0]
    assert np.signbit(got[:2]).tolist() == [False, True]
    assert np.isnan(got[2:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_narrowing_is_torchs(dtype):
    rng = np.random.default_rng(SEED)
    words = rng.integers(-(2**31), 2**31, 1 << 16).astype(np.int32)
    words[:8192] &= ~np.int32(0x7FFF)  # ties of bfloat16, among others
    words[8192:16384] = (words[8192:16384] & ~np.int32(0x0FFF)) | np.int32(0x30000000)
    words[-5:] = np.array([0x7F800000, 0x7F7FFFFF, 0x7FC00000, 0x7F7F8000, 0x7F7F7FFF], np.int32)
    x = torch.from_numpy(words).view(torch.float32)
    out = torch.empty(len(x), dtype=dtype)
    with np.errstate(over="ignore"), interpreted(narrowing_kernel, checked=False) as kernel:
        kernel[(1,)](x, out, N=len(x))
    nan = torch.isnan(x)
    assert nan.any()
    assert torch.isnan(out[nan]).all()
    assert torch.equal(bits_of(out[~nan]), bits_of(x.to(dtype)[~nan]))


def test_a_step_of_nan_gives_a_token_of_nan():
    matrices, biases = three("out")
    stack = stack_layers(matrices, 1, biases)
    x = torch.from_numpy(np.random.default_rng(SEED).standard_normal((3, 77)))
    operand, step = columns(matrices, stack, x, 1)
    step[1] = torch.nan
    for dtype in DTYPES:
        got = projected(stack, one_bit_sums(matrices, operand), step, dtype)
        assert torch.isnan(got[1]).all()
        want = expected(matrices, x, 1, biases, dtype)
        assert torch.equal(got[[0, 2]], want[[0, 2]])


def test_padding_columns_and_strides_do_not_matter():
    matrices, biases = three("out")
    stack = stack_layers(matrices, 2, biases)
    x = torch.from_numpy(np.random.default_rng(SEED).standard_normal((3, 77)))
    operand, step = columns(matrices, stack, x, 2)
    sums = one_bit_sums(matrices, operand)
    want = projected(stack, sums, step)
    padded = torch.full((len(sums), 16), 2**31 - 1, dtype=torch.int32)
    padded[:, :6] = sums
    twice = torch.stack([step, step], dim=1)[:, 0]
    assert not twice.is_contiguous()
    assert torch.equal(projected(stack, padded, twice), want)
    assert torch.equal(projected(stack, padded[:, :6], step), want)
    assert torch.equal(projected(stack, sums.T.contiguous().T, step), want)


def test_wrong_arguments_are_named(monkeypatch):
    matrices, _ = three("out")
    stack = stack_layers(matrices, 2)
    sums, step = torch.zeros((522, 6), dtype=torch.int32), torch.ones(3)
    with pytest.raises(LiftError, match=r"need.*int32 \(522, N\)"):
        projected(stack, sums[:-1], step)
    with pytest.raises(LiftError, match=r"sums are torch\.int64"):
        projected(stack, sums.long(), step)
    with pytest.raises(LiftError, match=r"shape \(522, 5\) do not fit 3 tokens of 2 columns"):
        projected(stack, sums[:, :5], step)
    with pytest.raises(LiftError, match=r"steps are torch\.float64"):
        projected(stack, sums, step.double())
    with pytest.raises(LiftError, match=r"float32, float16 or bfloat16, not torch\.float64"):
        projected(stack, sums, step, torch.float64)
    monkeypatch.setattr("gpu.project.MAX_ELEMENTS", 659)
    with pytest.raises(LiftError, match="3 tokens of 220 outputs are over 659"):
        projected(stack, sums, step)


def test_the_tile_follows_the_tokens():
    assert [tile_for(n) for n in (1, 3, 4, 512)] == [NARROW, NARROW, WIDE, WIDE]


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "gfx942"])
def test_it_compiles_without_spills(target):
    named = {job.kernel: job for job in jobs()}
    assert len(named) == len(jobs())
    for job in (named["project-out-a15-1"], named["project-in-4-16"]):
        report = build.compile_one(job, target)
        assert report.spills == 0
        assert report.registers <= 64
