"""Activations made ready on the CPU, against the reference's own functions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo.activations import quantise_activations
from algo.whitening import Whitening, no_whitening, random_whitening
from gpu.cpu.prepare import Activations, digit_rows, readable
from gpu.whiten import whitening_tensors

TYPES = [torch.float32, torch.float16, torch.bfloat16]
INPUTS = [1, 3, 17, 35, 77, 96, 576, 1536]


def prepared(x, whitening, digits, inner=None):
    given_x = Activations(readable(x), *whitening_tensors(whitening))
    return digit_rows(given_x, digits, x.shape[1] if inner is None else inner)


def wanted(x, whitening, digits):
    """The same by the reference: digits as rows, token by token; and steps."""
    parts, step = quantise_activations(whitening.ordered(x), digits)
    return parts.permute(1, 0, 2).reshape(-1, x.shape[1]), step.double()


@given(
    st.sampled_from(INPUTS),
    st.sampled_from([1, 3, 17]),
    st.sampled_from([1, 2]),
    st.sampled_from(TYPES),
    st.booleans(),
    st.integers(-30, 10),
    st.integers(0, 2**32 - 1),
)
def test_digits_and_steps_are_the_references(n, tokens, digits, dtype, scaled, size, seed):
    rng = np.random.default_rng(seed)
    whitening = random_whitening(n, seed % 1000)
    if scaled:
        pre = torch.from_numpy(rng.uniform(0.5, 2, n)).to(torch.bfloat16)
        whitening = Whitening(whitening.left, whitening.right, pre)
    x = torch.from_numpy(rng.standard_normal((tokens, n)) * 2.0**size).to(dtype)
    rows, steps = prepared(x, whitening, digits)
    right_rows, right_steps = wanted(x, whitening, digits)
    assert torch.equal(steps, right_steps)
    assert torch.equal(rows, right_rows)


def fused(x, whitening):
    """The whitening as it would be with every product added before it is rounded."""
    left, right = whitening.left.numpy(), whitening.right.numpy()
    square = x.numpy().reshape(len(left), len(right)).astype(np.float64)
    half, whole = np.zeros(square.shape, np.float32), np.zeros(square.shape, np.float32)
    for k in range(len(right)):
        half = (half + square[:, k : k + 1] * right[k].astype(np.float64)).astype(np.float32)
    for k in range(len(left)):
        product = left[k][:, None].astype(np.float64) * half[k].astype(np.float64)
        whole = (whole + product).astype(np.float32)
    return torch.from_numpy(whole.reshape(1, -1))


def test_no_product_is_fused_with_its_sum():
    """Where that shows in a step: the sample is one that a fused multiply-add would change."""
    whitening, seen = random_whitening(77, 4), 0
    for seed in range(40):
        x = torch.from_numpy(np.random.default_rng(seed).standard_normal((1, 77))).float()
        _, step = prepared(x, whitening, 1)
        assert torch.equal(step, wanted(x, whitening, 1)[1])
        seen += not torch.equal(step, quantise_activations(fused(x, whitening), 1)[1].double())
    assert seen > 0


def test_halves_are_rounded_to_even_and_the_largest_magnitudes_are_kept():
    x = torch.tensor([[127.0, -127.0, 0.5, 1.5, -0.5, -1.5, 2.5, -2.5]])
    rows, steps = prepared(x, no_whitening(8), 1)
    assert steps.tolist() == [1.0]
    assert rows.tolist() == [[127, -127, 0, 2, 0, -2, 2, -2]]


def test_two_digits_are_balanced_and_their_upper_one_stays_in_range():
    x = torch.tensor([[16256.0, -16256.0, 64.0, 63.0, -64.0, -65.0]])
    rows, steps = prepared(x, no_whitening(6), 2)
    assert steps.tolist() == [1.0]
    assert rows.tolist() == [[0, 0, -64, 63, -64, 63], [127, -127, 1, 0, 0, -1]]


def test_rows_are_padded_with_zeros():
    rows, _ = prepared(torch.ones(3, 35), no_whitening(35), 2, inner=64)
    assert rows.shape == (6, 64)
    assert not rows[:, 35:].any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 3e38])
def test_a_token_that_is_no_number_has_no_step_and_zero_digits(bad):
    x = torch.ones(3, 35)
    x[1, 5:8] = bad
    rows, steps = prepared(x, random_whitening(35, 2), 2)
    overflows = not torch.isfinite(random_whitening(35, 2).ordered(x[1])).all()
    if bad != 3e38:
        assert overflows
    assert bool(steps[1].isnan()) == overflows
    assert bool((rows[2:4] == 0).all()) == overflows
    assert not steps[[0, 2]].isnan().any()


def test_an_output_without_magnitude_counts_in_ones():
    rows, steps = prepared(torch.zeros(2, 17), random_whitening(17, 2), 1)
    assert steps.tolist() == [1.0, 1.0]
    assert not rows.any()


@pytest.mark.parametrize("digits", [1, 2])
def test_infinity_alone_has_no_step(digits):
    """One input, which nothing else turns into NaN."""
    rows, steps = prepared(torch.tensor([[torch.inf], [2.0]]), no_whitening(1), digits)
    assert steps.isnan().tolist() == [True, False]
    assert not rows[:digits].any()
