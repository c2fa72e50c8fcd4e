from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo.activations import (
    BASE,
    Digits,
    integer_layer,
    integer_product,
    product_rounded_once,
    quantise_activations,
    requantise,
)
from algo.errors import LiftError
from algo.matrix import quantise_matrix
from tests.conftest import CODES


def activations(tokens: int, n: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((tokens, n)).astype("f"))


@given(digits=st.sampled_from([1, 2]), tokens=st.integers(1, 5), seed=st.integers(0, 999))
def test_digits_make_up_the_nearest_integer(digits: Digits, tokens: int, seed: int) -> None:
    x = activations(tokens, 50, seed)
    parts, step = quantise_activations(x, digits)
    assert parts.dtype == torch.int8
    assert parts.shape == (digits, tokens, 50)
    integers = sum(part.double() * BASE**k for k, part in enumerate(parts))
    error = (integers * step.double()[:, None] - x.double()).abs()
    assert (error <= step.double()[:, None] * 0.5000001).all()
    largest = {1: 127, 2: 127 * 128}[digits]
    assert integers.abs().amax() == largest  # the range is used in full


def test_halves_round_to_even() -> None:
    x = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5]])
    parts, step = quantise_activations(x, 1)
    assert step.item() == 1
    assert parts[0, 0].tolist() == [127, 0, 2, 2, 0, -2]


def test_token_of_zeros_is_zeros() -> None:
    for digits in (1, 2):
        parts, step = quantise_activations(torch.zeros(2, 4), digits)
        assert not parts.any()
        assert (step == 1).all()


def test_digits_of_a_token_do_not_depend_on_the_batch() -> None:
    x = activations(6, 30, 1)
    together, _ = quantise_activations(x, 2)
    alone, _ = quantise_activations(x[3:4], 2)
    assert torch.equal(together[:, 3:4], alone)


@pytest.mark.parametrize("digits", [0, 3])
def test_other_numbers_of_digits_are_refused(digits: int) -> None:
    with pytest.raises(LiftError, match=f"digits={digits} is neither 1"):
        quantise_activations(torch.zeros(1, 1), digits)  # type: ignore[arg-type]


def test_activations_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(LiftError, match="NaN or infinity"):
        quantise_activations(torch.tensor([[1.0, torch.nan]]), 1)


def test_integer_product_does_not_depend_on_order_or_split() -> None:
    matrix = quantise_matrix(activations(20, 64, 2), CODES["LQ-16/8"], "in")
    digits, _ = quantise_activations(activations(3, 64, 3), 2)
    whole = integer_product(matrix, digits)
    accs = matrix.accumulators().astype(object)  # Python's integers: no width to overflow
    integers = digits[0].numpy().astype(object) + digits[1].numpy().astype(object) * BASE
    order = np.random.default_rng(0).permutation(64)
    split = sum(integers[:, part] @ accs[:, part].T for part in np.array_split(order, 5))
    assert np.array_equal(whole, split.astype(np.int64))


def test_integer_layer_is_rounded_once() -> None:
    matrix = quantise_matrix(activations(20, 64, 4), CODES["LQ-12/5+9"], "out")
    x = activations(5, 64, 5)
    digits, step = quantise_activations(x, 2)
    got = integer_layer(matrix, x, 2).numpy()
    sums = integer_product(matrix, digits)
    for token in range(5):
        for row in range(20):
            exact = (
                Fraction(int(sums[token, row]))
                * Fraction(float(matrix.scales[row]))
                * Fraction(float(step[token]))
                / 2**matrix.code.exponent
            )
            assert got[token, row] == nearest_float32(exact)


def nearest_float32(exact: Fraction) -> np.float32:
    """Correct rounding, half to even, from the two float32 on either side."""
    guess = np.float32(float(exact))
    down, up = (np.nextafter(guess, np.float32(end)) for end in (-np.inf, np.inf))
    around = [down, guess, up]
    return min(around, key=lambda f: (abs(Fraction(float(f)) - exact), f.view(np.int32) & 1))


def test_product_is_not_rounded_twice() -> None:
    # in float64 this product lands on a tie between two float32, which it is not
    a, b = np.array([2318611251.0]), np.array([16777211.0])
    assert np.float32(a * b) != nearest_float32(Fraction(2318611251) * 16777211)
    assert product_rounded_once(a, b) == nearest_float32(Fraction(2318611251) * 16777211)


@given(a=st.integers(-(2**50), 2**50), b=st.floats(2.0**-60, 2.0**20, width=32))
def test_product_is_rounded_once(a: int, b: float) -> None:
    got = product_rounded_once(np.array([float(a)]), np.array([b]))
    assert got == nearest_float32(Fraction(a) * Fraction(b))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (1, 1), (-1, -1), (3, 2), (-3, -2), (5, 3), (-5, -3), (2, 1), (254, 127), (-256, -128),
     (10_000, 127), (-10_000, -128)],
)  # fmt: skip
def test_requantised_halves_go_away_from_zero_and_saturate(value: int, expected: int) -> None:
    assert requantise(np.array([value]), multiplier=1, shift=1).tolist() == [expected]


@given(
    value=st.integers(-(2**31), 2**31 - 1),
    multiplier=st.integers(0, 2**30),
    shift=st.integers(1, 45),
)
def test_requantise_is_exact_rational_rounding(value: int, multiplier: int, shift: int) -> None:
    product = abs(value) * multiplier
    rounded = (2 * product + (1 << shift)) // (2 << shift)
    expected = max(-(1 << 15), min((1 << 15) - 1, rounded if value >= 0 else -rounded))
    got = requantise(np.array([value], np.int64), multiplier, shift, bits=16)
    assert got.tolist() == [expected]


def test_requantise_takes_int32_sums() -> None:
    sums = np.array([100_000, -100_000], np.int32)
    assert requantise(sums, 2**30, 31, bits=32).tolist() == [50_000, -50_000]


def test_requantise_refuses_what_it_cannot_do_exactly() -> None:
    with pytest.raises(LiftError, match="shift=0"):
        requantise(np.array([1]), 1, 0)
    for value in (2**40, -(2**63)):
        with pytest.raises(LiftError, match="do not fit in 64 bits"):
            requantise(np.array([value]), 2**30, 8)
