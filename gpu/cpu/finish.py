"""The end of the integer layer: one rounding to float32, the bias, and the output's own type."""

import numba
import numpy as np
import torch

from gpu.cpu.fields import floats, int16s
from gpu.cpu.vectors import from_pattern, pattern

WRITTEN = (torch.float32, torch.bfloat16)  # types that are written as they are, by their number


@numba.njit(cache=True)
def finish(sums, scales, bias, step, results, kind, to):  # type: ignore[no-untyped-def]
    """`algo.activations.product_rounded_once`, plus the bias, in float32; then written.

    Args:
        sums: float64 ``(rows,)`` or longer, integers.
        scales, bias: float32 ``(rows,)``.
        step: the token's, float64.
        results: float32 ``(rows,)`` or longer, scratch.
        kind: of the output, as its type stands in `WRITTEN`.
        to: address of the output.
    """
    rows = len(scales)
    split = 2.0**27 + 1
    step_high = step * split - (step * split - step)
    step_low = step - step_high
    for r in range(rows):
        a = sums[r] * np.float64(scales[r])
        product = a * step
        high = a * split - (a * split - a)
        low = a - high
        lost = low * step_low - (((product - high * step_high) - low * step_high) - high * step_low)
        bits = pattern(product)
        # nextafter: a pattern one more is further from 0
        away = np.int64(1) if (lost > 0) == (product > 0) else np.int64(-1)
        moved = away if (lost != 0) & (bits & 1 == 0) else np.int64(0)
        results[r] = np.float32(from_pattern(bits + moved)) + bias[r]
    if kind == 0:
        out = floats(to, rows)
        for r in range(rows):
            out[r] = results[r]
        return
    short, patterns = int16s(to, rows), results.view(np.int32)
    for r in range(rows):
        bits = np.int64(patterns[r])
        even = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16  # to the nearest, ties to even
        short[r] = np.int16(even if results[r] == results[r] else 0x7FC0)
