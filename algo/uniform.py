"""Uniform integers on N(0, 1): what INT2, INT3 and INT4 reach, for comparison with the codes."""

import math


def _partial(point: float) -> tuple[float, float]:
    """Distribution and density of N(0, 1) at `point`."""
    return 0.5 * (1 + math.erf(point / math.sqrt(2))), math.exp(-point * point / 2) / math.sqrt(
        2 * math.pi
    )


def midrise_mse(bits: int, step: float) -> float:
    """MSE on N(0, 1) of 2**bits levels, `step` apart and symmetric about zero, exactly."""
    half = 2 ** (bits - 1)
    total = 0.0
    for k in range(half):
        low, high = k * step, math.inf if k == half - 1 else (k + 1) * step
        level = (k + 0.5) * step
        (below, density_low), (above, density_high) = _partial(low), _partial(high)
        mass, first = above - below, density_low - density_high
        edge = 0.0 if high == math.inf else high * density_high
        second = mass + low * density_low - edge
        total += second - 2 * level * first + level * level * mass
    return 2 * total


def uniform_mse(bits: int) -> float:
    """Least MSE on N(0, 1) of a symmetric uniform quantiser (Max, IRE Trans. IT-6, 1960).

    The error has one minimum over the step; it is closed in on by golden sections.
    """
    low, high = 1e-3, 4.0
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(80):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if midrise_mse(bits, left) < midrise_mse(bits, right):
            high = right
        else:
            low = left
    return midrise_mse(bits, (low + high) / 2)
