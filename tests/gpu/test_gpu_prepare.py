"""Whitened, quantised and lifted digits: the kernels under the interpreter against `algo`."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.activations import quantise_activations
from algo.code import LiftCode
from algo.errors import LiftError
from algo.lifted import bounds, from_digits, lift, signed_digits
from algo.packing import stream_groups
from algo.shipped import shipped_codes
from algo.whitening import Whitening, no_whitening, ordered_transform, random_whitening
from gpu import quantise, whiten
from gpu.bitmm import digit_planes
from gpu.interpret import interpreter
from gpu.lift import lift_tables
from gpu.planes import laid_out, planes_shape
from gpu.prepare import large_blocks, prepare, prepare_plainly
from gpu.tiles import NARROW, Tile
from gpu.whitening_tensors import WhiteningTensors, whitening_tensors

SEED = 31
TILE = Tile(rows=64, columns=4, inner=4, warps=4, stages=1)  # little padding, for speed
LINEAR = [name for name, shipped in shipped_codes().items() if shipped.linear]


def scaled_whitening(n: int, seed: int = SEED) -> Whitening:
    scales = np.exp(np.random.default_rng([seed, n]).normal(size=n) / 2)
    return replace(random_whitening(n, seed), pre=torch.from_numpy(scales).to(torch.bfloat16))


def activations(tokens: int, n: int, seed: int = SEED) -> torch.Tensor:
    print("seed", seed)
    rng = np.random.default_rng([seed, tokens, n])
    return torch.from_numpy(rng.standard_normal((tokens, n)).astype(np.float32))


def oracle(x, whitening, digits, code=None):
    """Digits ``(per_token, tokens, K)`` and steps by the reference; bad tokens are zero and NaN."""
    w = whitening.ordered(x)
    finite = torch.isfinite(w).all(dim=1)
    parts, step = quantise_activations(torch.where(finite[:, None], w, 0.0), digits)
    step[~finite] = torch.nan
    if code is not None:
        lifted = lift(from_digits(parts.numpy(), 128), code, stream_groups(x.shape[1], code))
        per_token = bounds((1, x.shape[1]), code, "in", digits).per_token
        parts = torch.from_numpy(signed_digits(lifted, 256, per_token))
    return parts, step


def check(got, parts, step, tile):
    per_token, tokens, inner = parts.shape
    assert got.per_token == per_token
    assert got.planes.shape == planes_shape(per_token * tokens, inner, tile)
    assert got.planes.dtype == torch.int8
    assert torch.equal(got.step.view(torch.int32), step.view(torch.int32))
    columns = got.planes.permute(1, 2, 0).flatten(1)  # (N', 8 Kb')
    want = torch.zeros_like(columns)
    want[: tokens * per_token, :inner] = parts.transpose(0, 1).flatten(0, 1)
    assert torch.equal(columns, want)
    assert torch.equal(got.sums, want.sum(dim=1, dtype=torch.int32))


def run_all(x, whitening, digits, code=None, tile=TILE, *, checked=False, large=True):
    """Kernels and plain torch against the reference."""
    tensors = whitening_tensors(whitening)
    tables = None if code is None else lift_tables(code, x.shape[1])
    blocks = large_blocks(*x.shape) if large and len(x) else None
    want = oracle(x, whitening, digits, code)
    check(prepare_plainly(x, tensors, digits, tables, tile), *want, tile)
    # what is made of NaN and infinity on the way to zero digits is no surprise
    with interpreter(checked) as run, np.errstate(over="ignore", invalid="ignore"):
        check(prepare(run, x, tensors, digits, tables, tile, blocks), *want, tile)


@pytest.mark.parametrize(
    ("n", "tokens"),
    [(1, 1), (3, 17), (17, 0), (17, 3), (576, 1), (576, 17), (576, 64), (1536, 3), (4096, 1),
     (14336, 1), (28672, 1)],
)  # fmt: skip
def test_sizes(n, tokens):
    for digits in (1, 2) if n < 100 else (2,):
        run_all(activations(tokens, n), scaled_whitening(n), digits)


def test_a_prime_size():
    """4099 = 1 x 4099: the right factor is the whole transform."""
    x, rng = activations(3, 4099), np.random.default_rng(SEED)
    right = torch.from_numpy(rng.standard_normal((4099, 4099)).astype(np.float32))
    wide = torch.nn.functional.pad(right, (0, 8192 - 4099))
    tensors = WhiteningTensors(torch.full((1, 1), -0.75), wide, None)
    blocks = large_blocks(3, 4099)
    blocks = blocks._replace(whiten=whiten.Block(1, 4, 8192, 1, 1))  # one program; the same sums
    with interpreter(False) as run:
        got = prepare(run, x, tensors, 2, None, TILE, blocks)
    want = quantise_activations(ordered_transform(x, tensors.left, right, None), 2)
    check(got, *want, TILE)


@pytest.mark.parametrize(("n", "digits"), [(17, 1), (17, 2), (96, 2)])
def test_the_blocks_that_a_gpu_would_get(n, digits, monkeypatch):
    code = shipped_codes()["LQ-12/5+9"].code
    x, whitening = activations(3, n), scaled_whitening(n)
    run_all(x, whitening, digits, tile=NARROW, large=False)
    run_all(x, whitening, digits, code, large=False)
    monkeypatch.setattr(whiten, "MANY_SUMS", 0)
    monkeypatch.setattr(quantise, "MANY_TOKENS", 0)
    run_all(x, whitening, digits, large=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats(dtype):
    x = activations(5, 576).to(dtype)
    run_all(x, scaled_whitening(576), 2)
    run_all(x, random_whitening(576, SEED), 1)


def test_strides():
    wide = activations(10, 700)
    for x in (
        wide[::3, :576],
        wide[1:4, 50:626],
        wide[:, :100].T[:96, ::2],
        wide[:1].expand(3, -1),
    ):
        run_all(x, scaled_whitening(x.shape[1]), 2)


@pytest.mark.parametrize("name", LINEAR)
def test_the_lift_of_every_shipped_linear_code(name):
    code = shipped_codes()[name].code
    n = 5 * code.group + (1 if code.group > 1 else 0) + 40 * (code.overlap > 0)
    for digits in (1, 2):
        run_all(activations(2, n), scaled_whitening(n), digits, code)


@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize("n", [17, 576, 1536])
@pytest.mark.parametrize("name", ["LQ-24/10", "LQ-2/1+6"])
def test_lifted_widths(name, n, digits):
    run_all(activations(3, n), scaled_whitening(n), digits, shipped_codes()[name].code)


def extreme_code(tap: int, lifted: int = 2, group: int = 1, overlap: int = 14) -> LiftCode:
    taps = np.full((group, lifted + overlap), tap, np.int8)
    return LiftCode(lifted, group, overlap, (lifted,), taps, 6)


@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize("tap", [127, -127, 1])
def test_the_largest_lifted_integers(tap, digits):
    """Activations as large as they get, signs agreeing: the bound is reached, nothing wraps."""
    x = torch.stack([torch.ones(40), -torch.ones(40), (-1.0) ** torch.arange(40)])
    code = extreme_code(tap)
    run_all(x, no_whitening(40), digits, code, checked=True)
    largest = {1: 127, 2: 127 * 128}[digits] * 8 * abs(tap)
    assert bounds((1, 40), code, "in", digits).operand == largest


def test_no_integer_overflows():
    x = activations(3, 96)
    x[2] *= 1e38
    code = shipped_codes()["LQ-24/10"].code
    for digits in (1, 2):
        run_all(x, scaled_whitening(96), digits, checked=True)
        run_all(x, scaled_whitening(96), digits, code, checked=True)


def extremes(n: int) -> torch.Tensor:
    """Tokens of extreme values, good and bad ones next to each other."""
    tiny, least, huge = 2.0**-149, 2.0**-126, torch.finfo(torch.float32).max
    x = activations(14, n)
    x[0] = 0
    x[1] = -0.0
    x[2] = tiny
    x[3] = torch.tensor([tiny, -tiny * 100, tiny * 63, -tiny * 65]).repeat(n)[:n]
    x[4] = x[4] * least
    x[5] = torch.tensor([huge, -huge, huge / 2, 1.0]).repeat(n)[:n]
    x[6, 3] = torch.nan
    x[8, 0] = torch.inf
    x[9, n - 1] = -torch.inf
    x[10] = torch.nan
    x[11] = x[11] * 2.0**-140
    x[12, 1:] = 0
    return x


@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize("name", [None, "LQ-12/5+9"])
def test_extreme_values(digits, name):
    x = extremes(96)
    code = None if name is None else shipped_codes()[name].code
    run_all(x, scaled_whitening(96), digits, code)  # where 1e38 overflows, the token is bad
    _, step = oracle(x, scaled_whitening(96), digits)
    assert torch.isnan(step).nonzero().flatten().tolist() == [5, 6, 8, 9, 10]
    assert (step[:2] == 1).all()
    # without mixing, magnitudes stay: one over another's step does not arise, zeros do
    run_all(x[:6], no_whitening(96), digits, code)
    run_all(x[11:], no_whitening(96), digits, code)


@pytest.mark.parametrize("digits", [1, 2])
def test_halves_round_to_even(digits):
    largest = {1: 127, 2: 127 * 128}[digits]
    halves = torch.arange(-largest + 1, largest).float()[:: digits * 7 - 6] + 0.5
    x = torch.cat([torch.tensor([float(largest)]), halves, -halves])[None]
    x = x[:, : x.shape[1] // 64 * 64]  # so that its factors are small
    x = torch.cat([x, x * 0.375, x * 2.0**-130])
    run_all(x, no_whitening(x.shape[1]), digits)
    _, step = oracle(x, no_whitening(x.shape[1]), digits)
    assert step[0] == 1


@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(0, 5),
    n=st.integers(12, 80),
    digits=st.sampled_from([1, 2]),
    name=st.sampled_from([None, "LQ-24/10", "LQ-3/1+5", "LQ-12/5+5"]),
)
def test_any_activations(seed, tokens, n, digits, name):
    code = None if name is None else shipped_codes()[name].code
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((tokens, n)) * np.exp2(rng.integers(-40, 40, (tokens, 1)))
    run_all(torch.from_numpy(x.astype(np.float32)), scaled_whitening(n), digits, code)


def test_digits_do_not_depend_on_the_batch():
    x, whitening = activations(6, 96), whitening_tensors(scaled_whitening(96))
    with interpreter(False) as run:
        together = prepare(run, x, whitening, 2, None, TILE, large_blocks(6, 96))
        alone = prepare(run, x[3:4], whitening, 2, None, TILE, large_blocks(1, 96))
    assert torch.equal(together.planes[:, 6:8], alone.planes[:, :2])
    assert torch.equal(together.step[3:4], alone.step)


@pytest.mark.parametrize("name", [None, "LQ-2/1+6"])
def test_what_pads_tiles_is_written_over_whatever_was_there(name, monkeypatch):
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **kinds: empty(*size, **kinds).fill_(77))
    code = None if name is None else shipped_codes()[name].code
    run_all(activations(3, 17), scaled_whitening(17), 2, code, NARROW)


def test_plain_digits_lie_as_the_one_bit_product_makes_them():
    digits = torch.from_numpy(np.random.default_rng(SEED).integers(-128, 128, (2, 5, 77), np.int8))
    got = laid_out(digits, torch.ones(5), NARROW)
    columns = digits.transpose(0, 1).flatten(0, 1).T.contiguous()
    planes, sums = digit_planes(columns, 12, NARROW)
    assert torch.equal(got.planes, planes)
    assert torch.equal(got.sums, sums)
    assert got.per_token == 2


def test_wrong_arguments_are_named():
    x, whitening = activations(2, 96), whitening_tensors(scaled_whitening(96))
    code = shipped_codes()["LQ-12/5+9"].code
    with pytest.raises(LiftError, match=r"float64 of shape \(2, 96\); need \(tokens, 96\)"):
        prepare_plainly(x.double(), whitening, 1, None, TILE)
    with pytest.raises(LiftError, match=r"float32 of shape \(2, 95\); need \(tokens, 96\)"):
        prepare_plainly(x[:, 1:], whitening, 1, None, TILE)
    with pytest.raises(LiftError, match=r"float32 of shape \(96,\)"):
        prepare_plainly(x[0], whitening, 1, None, TILE)
    with pytest.raises(LiftError, match="digits=3 is neither 1"):
        prepare_plainly(x, whitening, 3, None, TILE)
    with pytest.raises(LiftError, match="tables are for 100 activations, not 96"):
        prepare_plainly(x, whitening, 1, lift_tables(code, 100), TILE)
    with pytest.raises(LiftError, match="are on cpu and meta; move them to one device"):
        prepare_plainly(x.to("meta"), whitening, 1, None, TILE)
    with pytest.raises(LiftError, match="elements, which is as far as 32-bit indices reach"):
        prepare_plainly(torch.empty((2**26, 96), device="meta"), meta(whitening), 1, None, TILE)
    with pytest.raises(LiftError, match="has 12 parities"):
        lift_tables(shipped_codes()["LQ-2/1+10^12"].code, 96)
    with pytest.raises(LiftError, match="too narrow"):
        lift_tables(code, 3)


def meta(tensors):
    return type(tensors)(*(t if t is None else t.to("meta") for t in tensors))
