"""Rounding quotients in float32, against exact integers."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from algo.activations import LARGEST, quantise_activations
from gpu.interpret import interpreter
from gpu.quantise import nearest_integers, token_step

SEED = 33


@triton.jit
def divide_kernel(w, step, out, LARGEST: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, N)
    q = nearest_integers(tl.load(w + at), tl.load(step + at), LARGEST)
    tl.store(out + at, q)


@triton.jit
def step_kernel(amax, out, LARGEST: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out + at, token_step(tl.load(amax + at), LARGEST))


def padded(values: np.ndarray) -> torch.Tensor:
    size = 1 << (len(values) - 1).bit_length()
    return torch.from_numpy(np.concatenate([values, np.ones(size - len(values), values.dtype)]))


def divide(w: np.ndarray, step: np.ndarray, largest: int) -> np.ndarray:
    numerators, steps = padded(w), padded(step)
    out = torch.empty(len(numerators), dtype=torch.int32)
    with interpreter(False) as run:
        run(divide_kernel)[(1,)](numerators, steps, out, LARGEST=largest, N=len(out))
    return out.numpy()[: len(w)]


def exact(w: np.ndarray, step: np.ndarray, largest: int) -> np.ndarray:
    """``w / step`` to the nearest integer, ties to even, in integers alone.

    Where the quotient is below 2**15, twice a numerator is below 2**15 steps: in units of the last
    place of the smaller of both it fits into 64 bits.
    """
    (mw, ew), (ms, es) = (np.frexp(np.abs(x).astype(np.float64)) for x in (w, step))
    mw, ms = ((m * 2.0**24).astype(np.int64) for m in (mw, ms))
    apart = np.clip(ew - es, -26, 16)  # a quotient below 2**-26 is 0 however far below
    twice = 2 * mw << np.maximum(apart, 0)
    unit = 2 * ms << np.maximum(-apart, 0)
    q = (twice + unit // 2) // unit
    q -= ((twice + unit // 2) % unit == 0) & (q % 2 == 1)
    return np.minimum(q, largest) * np.sign(w).astype(np.int64)


def steps(rng: np.random.Generator, count: int, exponents: tuple[int, int]) -> np.ndarray:
    """Steps with all kinds of significands: random, few bits, all bits, pieces that are zero."""
    masks = np.array([0x7FFFFF, 0x7F0000, 0x7F00FF, 0x00FFFF, 0x7FFF00, 0x000001], np.int64)
    fraction = rng.integers(0, 1 << 23, count) & rng.choice(masks, count)
    fraction = np.where(rng.random(count) < 0.1, 0x7FFFFF - (fraction & 3), fraction)
    biased = rng.integers(exponents[0] + 127, exponents[1] + 127, count)
    found = (biased << 23 | fraction).astype(np.int32).view(np.float32)
    return np.maximum(found, np.float32(2.0**-149))  # a step of 0 is made 1


@pytest.mark.parametrize("exponents", [(-127, -126), (-110, -90), (-20, 10), (100, 113)])
@pytest.mark.parametrize("digits", [1, 2])
def test_quotients_next_to_a_half(digits, exponents):
    """Every neighbour of ``(n + 1/2) * step``, up to 3 last places off, for many n and step."""
    print("seed", SEED)
    rng = np.random.default_rng([SEED, digits, 127 + exponents[1]])
    largest, count = LARGEST[digits], 1 << 15
    step = steps(rng, count, exponents)
    # a step so short that it was rounded to few bits may be exceeded by half
    reach = largest * 3 // 2 if exponents[1] < -120 else largest + 1
    n = rng.integers(-reach, reach, count)
    n[: count // 4] = rng.integers(-3, 3, count // 4)
    with np.errstate(over="ignore"):
        near = ((n + 0.5) * step.astype(np.float64)).astype(np.float32)
        ends = np.copysign(np.float32(np.inf), near)
        around = [near]
        for end in (ends, np.zeros_like(near)):
            at = near
            for _ in range(3):
                around.append(at := np.nextafter(at, end))
    w = np.clip(np.concatenate(around), -3e38, 3e38)
    step = np.tile(step, 7)
    want = exact(w, step, largest)
    assert np.array_equal(divide(w, step, largest), want)
    rounded = np.rint(w.astype(np.float64) / step)
    assert np.array_equal(np.clip(rounded, -largest, largest), want)  # the definition's way, too


@pytest.mark.parametrize("digits", [1, 2])
def test_all_quotients(digits):
    rng = np.random.default_rng([SEED, digits])
    count = 1 << 18
    step = steps(rng, count, (-30, 30))
    w = (step * rng.uniform(-1, 1, count) * LARGEST[digits]).astype(np.float32)
    w[::3] = (step * rng.uniform(-2, 2, count)).astype(np.float32)[::3]
    assert np.array_equal(divide(w, step, LARGEST[digits]), exact(w, step, LARGEST[digits]))


@pytest.mark.parametrize("digits", [1, 2])
def test_an_estimate_alone_would_be_wrong(digits):
    """Control: the cases above hold many where rounding the estimate gives another integer."""
    rng = np.random.default_rng([SEED, digits])
    step = steps(rng, 1 << 15, (-20, 10))
    n = rng.integers(-LARGEST[digits], LARGEST[digits], len(step))
    w = ((n + 0.5) * step.astype(np.float64)).astype(np.float32)
    estimate = np.rint(w * (np.float32(1) / step))
    assert (estimate != exact(w, step, LARGEST[digits])).mean() > 0.1


@pytest.mark.parametrize("digits", [1, 2])
def test_steps_are_those_of_the_reference(digits):
    """Magnitudes of all exponents, and those next to a tie between two steps."""
    rng = np.random.default_rng([SEED, digits])
    bits = np.concatenate(
        [
            np.arange(1 << 15),  # subnormal
            rng.integers(0, 0x7F800000, 1 << 16),
            (np.abs(steps(rng, 1 << 14, (-100, 100))) * np.float32(LARGEST[digits])).view(np.int32),
            [0x7F7FFFFF, 0x00800000, 0],
        ]
    ).astype(np.int32)
    values = padded(bits)
    out = torch.empty(len(values))
    with interpreter(False) as run:
        run(step_kernel)[(1,)](values, out, LARGEST=LARGEST[digits], N=len(out))
    amax = torch.from_numpy(bits.view(np.float32))[:, None]
    _, want = quantise_activations(amax, digits)
    assert torch.equal(out[: len(bits)], want)


def test_the_step_of_what_is_no_number_is_none():
    bits = torch.tensor([0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF], dtype=torch.int32)
    out = torch.zeros(4)
    with interpreter(False) as run, np.errstate(invalid="ignore"):
        run(step_kernel)[(1,)](bits, out, LARGEST=127, N=4)
    assert torch.isnan(out).all()
