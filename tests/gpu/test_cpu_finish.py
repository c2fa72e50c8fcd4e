"""The end of the integer layer on the CPU: what is rounded, and how often."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo.activations import product_rounded_once
from gpu.cpu.finish import WRITTEN, finish


def finished(sums, scales, bias, step, dtype=torch.float32):
    out = torch.empty(len(scales), dtype=dtype)
    results = np.empty(len(scales), np.float32)
    kind = WRITTEN.index(dtype)
    finish(sums, scales, bias, np.float64(step), results, kind, out.data_ptr())
    return out


def near_ties(rng, step):
    """Sums whose products with `step` lie by less than a float64 shows beside a float32 tie."""
    units = int(step * 2**24)
    sums = []
    while len(sums) < 4:
        tie = (2 * int(rng.integers(2**23, 2**24)) + 1) << 44
        near = -(-tie // units) - int(rng.integers(2))
        if 0 < abs(near * units - tie) < 2**14 and near < 2**45:
            sums.append(near)
    return np.array(sums, np.float64)


def test_a_product_is_rounded_once():
    rng, seen = np.random.default_rng(1), 0
    for _ in range(8):
        step = float(np.float32(rng.uniform(0.9, 1)))
        sums = near_ties(rng, step)
        ones, none = np.ones(4, np.float32), np.full(4, -0.0, np.float32)
        for signed in (sums, -sums):
            wanted = product_rounded_once(signed, np.full(4, step))
            assert np.array_equal(finished(signed, ones, none, step).numpy(), wanted)
            seen += int((wanted != (signed * step).astype(np.float32)).sum())
    assert seen > 0  # rounding twice is seen here


@given(
    st.integers(0, 2**32 - 1),
    st.integers(-120, 80),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_scales_steps_and_biases_of_every_size(seed, power, dtype):
    rng = np.random.default_rng(seed)
    sums = rng.integers(-(2**40), 2**40, 50).astype(np.float64)
    scales = torch.from_numpy(rng.standard_normal(50)).to(torch.bfloat16).float().numpy()
    step = float(np.float32(rng.uniform(0.5, 1) * 2.0**power))
    bias = rng.standard_normal(50).astype(np.float32)
    bias[::2] = -0.0
    sums[:3] = 0
    scales[3] = 0
    wanted = product_rounded_once(sums * scales, np.full(50, step)) + bias
    out = finished(sums, scales, bias, step, dtype)
    kind = torch.int32 if dtype == torch.float32 else torch.int16
    assert torch.equal(out.view(kind), torch.from_numpy(wanted).to(dtype).view(kind))


def test_bfloat16_is_torchs_at_ties_infinities_and_nan():
    values = torch.tensor([0x3F808000, 0x3F818000, 0x7F7FFFFF, 0x7F800000, 0x00008000, 0x00018000])
    patterns = torch.cat([values, values | (1 << 31)]).to(torch.int64)
    bias = patterns.to(torch.int32).view(torch.float32)
    nothing, ones = np.zeros(len(bias)), np.ones(len(bias), np.float32)
    out = finished(nothing, ones, bias.numpy(), 1.0, torch.bfloat16)
    assert torch.equal(out.view(torch.int16), bias.to(torch.bfloat16).view(torch.int16))
    assert finished(nothing, ones, bias.numpy(), np.nan, torch.bfloat16).isnan().all()
