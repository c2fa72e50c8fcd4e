"""Codes and bits for the kernel tests."""

from collections.abc import Iterator

import numpy as np
import torch
from hypothesis import strategies as st

from algo.code import LiftCode, block_shifts, sliding_shifts
from algo.matrix import AXES, PackedMatrix
from algo.packing import Words, extend_words, pack_bits, stream_groups

# D, d, V, P: block codes, up to a 32-bit window; sliding codes; both with parities
GEOMETRIES = [
    (1, 1, 0, 0),
    (3, 2, 0, 0),
    (16, 8, 0, 0),
    (24, 10, 0, 0),
    (24, 8, 0, 0),
    (32, 16, 0, 0),
    (32, 3, 0, 5),
    (16, 8, 0, 3),
    (2, 1, 6, 0),
    (2, 1, 10, 0),
    (12, 5, 9, 0),
    (3, 1, 9, 0),
    (2, 1, 10, 10),
    (12, 5, 9, 4),
    (1, 1, 15, 16),
]


def random_code(
    rng: np.random.Generator, lifted: int, group: int, overlap: int, parities: int
) -> LiftCode:
    """Random taps in which every row's sum of magnitudes is 2047, or all are 127 or so."""
    shifts = sliding_shifts(lifted, group) if overlap else block_shifts(lifted, group)
    window = overlap + shifts[-1]
    masks: set[int] = set()
    while len(masks) < parities:
        mask = int(rng.integers(1, 1 << window))
        if mask.bit_count() > 1:
            masks.add(mask)
    taps = np.zeros((group, lifted + overlap + parities), np.int8)
    for i in range(group):
        start = sum(shifts[:i])
        own = [*range(start, start + window), *range(lifted + overlap, taps.shape[1])]
        taps[i, own] = _row(rng, len(own))
    return LiftCode(lifted, group, overlap, shifts, taps, 6, tuple(sorted(masks)))


def _row(rng: np.random.Generator, n: int) -> np.ndarray:
    magnitudes = rng.integers(64, 128, n)
    while magnitudes.sum() > 2047:
        magnitudes[int(rng.integers(n))] //= 2
    for j in range(n):  # fill up to the limit where that is possible
        magnitudes[j] += min(127 - magnitudes[j], 2047 - magnitudes.sum())
    return magnitudes * rng.choice([-1, 1], n)


def streams(
    rng: np.random.Generator, code: LiftCode, count: int, groups: int
) -> Iterator[tuple[str, Words, Words]]:
    """Named (stored words, extended words): random bits, all zero, all one."""
    shape = (count, groups * code.lifted)
    for name, bits in (
        ("random", rng.integers(0, 2, shape, dtype=np.uint8)),
        ("zeros", np.zeros(shape, np.uint8)),
        ("ones", np.ones(shape, np.uint8)),
    ):
        words = pack_bits(bits)
        yield name, words, extend_words(words, groups, code)


def packed_matrix(rng, code, axis, streams, extra=7, fill=None) -> PackedMatrix:
    """A matrix of random bits (or all of them `fill`) and scales, `extra` weights over the least.

    The last group of a stream is cut where `extra` leaves it so.
    """
    least = (-(-(code.lifted + code.overlap) // code.lifted) - 1) * code.group + 1
    weights = least + extra
    shape = (streams, stream_groups(weights, code) * code.lifted)
    bits = rng.integers(0, 2, shape) if fill is None else np.full(shape, fill)
    rows, columns = (streams, weights) if axis == "in" else (weights, streams)
    scales = torch.from_numpy(rng.normal(size=rows) * 2.0 ** rng.integers(-9, 3, rows))
    words = pack_bits(bits.astype(np.uint8))
    return PackedMatrix(code, axis, (rows, columns), words, scales.to(torch.bfloat16))


def drawn_matrix(geometry, axis, streams, extra, fill, seed) -> PackedMatrix:
    """`packed_matrix` in a random code of a geometry."""
    rng = np.random.default_rng(seed)
    return packed_matrix(rng, random_code(rng, *geometry), axis, streams, extra, fill)


# matrices of every kind of code, of which words of 64 columns or rows are filled or not
MATRICES = st.builds(
    drawn_matrix,
    st.sampled_from(GEOMETRIES),
    st.sampled_from(AXES),
    st.sampled_from([1, 3, 17, 63, 64, 65, 130]),
    st.integers(0, 140),
    st.sampled_from([None, None, None, 0, 1]),  # bits all alike hide where they are read
    st.integers(0, 2**32 - 1),
)
