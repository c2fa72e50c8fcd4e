"""Codes with random taps, and the geometries the decoder is tried on."""

import numpy as np

from algo.code import LiftCode, block_shifts, sliding_shifts
from algo.packing import Words, pack_bits

# (D, d, V, parities)
SHAPES = [
    (16, 8, 0, 0),
    (24, 10, 0, 0),
    (24, 8, 0, 2),
    (3, 2, 0, 0),
    (1, 1, 0, 0),
    (2, 1, 6, 0),
    (2, 1, 10, 4),
    (12, 5, 9, 0),
    (3, 1, 9, 3),
    (32, 16, 0, 0),
]


def random_code(lifted, group, overlap=0, parities=0, seed=0):
    """A code whose taps are random, some of them zero and one of them -128."""
    rng = np.random.default_rng(seed)
    shifts = sliding_shifts(lifted, group) if overlap else block_shifts(lifted, group)
    window = overlap + shifts[-1]
    masks = []
    while len(masks) < parities:
        members = rng.choice(window, int(rng.integers(2, 4)), replace=False)
        mask = sum(1 << int(member) for member in members)
        if mask not in masks:
            masks.append(mask)
    taps = np.zeros((group, lifted + overlap + parities), np.int8)
    start = 0
    for row, shift in enumerate(shifts):
        taps[row, start : start + window] = rng.integers(-60, 61, window)
        taps[row, lifted + overlap :] = rng.integers(-60, 61, parities)
        taps[row, start + int(rng.integers(window))] = 0 if window > 1 and row else -128
        start += shift
    return LiftCode(lifted, group, overlap, shifts, taps, 6, tuple(masks))


def least_groups(code):
    return -(-(code.lifted + code.overlap) // code.lifted)


def random_words(code, groups, streams, seed=0) -> Words:
    rng = np.random.default_rng(seed)
    return pack_bits(rng.integers(0, 2, (streams, groups * code.lifted)).astype(np.uint8))


# of the shipped codes: the paper's block codes, every window, with parities and without, rates
# from 1.5 to 4, the shortest and the longest groups
SHIPPED_SAMPLE = (
    "LQ-16/8", "LQ-24/10", "LQ-24/8", "LQ-2/1+6", "LQ-2/1+10^12", "LQ-3/2+10^12", "LQ-9/5+10",
    "LQ-12/5+9", "LQ-27/10+9^12", "LQ-3/1+13^16", "LQ-7/2+8", "LQ-4/1+12^16", "LQ-39/10+8^12",
)  # fmt: skip
