"""Streams that are rows, turned round for the moment: bits of 64 rows to a word."""

import numba
import numpy as np
import torch

from algo.code import LiftCode
from algo.packing import stream_groups
from gpu.cpu.bits import SLACK, WORD, bit_layout, wrapping_groups

_WORDS = numba.uint64[::1]


@numba.njit(numba.void(_WORDS), cache=True)
def _transpose(square):  # type: ignore[no-untyped-def]
    """A 64x64 bit matrix in place: bit l of word k and bit k of word l change places."""
    distance, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    while distance:
        for k in range(64):
            if not k & np.int64(distance):
                other = k + np.int64(distance)
                moved = ((square[k] >> distance) ^ square[other]) & mask
                square[other] ^= moved
                square[k] ^= moved << distance
        distance >>= np.uint64(1)
        mask ^= mask << distance


@numba.njit(numba.void(_WORDS, *[numba.int64] * 5, numba.uint64[:, :, ::1]), nogil=True, cache=True)
def _turn(bits, rows, first, lifted, groups, wrap, out):  # type: ignore[no-untyped-def]
    """Words of rows into ``out[block, c, g]``; the groups that windows wrap round to once more."""
    square = np.empty(64, np.uint64)
    for block in range(out.shape[0]):
        row = 64 * (first + block)
        many = min(64, rows - row)
        for n in range(-(-groups * lifted // 64)):
            square[:] = 0
            square[:many] = bits[n * rows + row : n * rows + row + many]
            _transpose(square)
            for k in range(min(64, groups * lifted - 64 * n)):
                g, c = divmod(64 * n + k, lifted)
                out[block, c, g] = square[k]
                if g < wrap:
                    out[block, c, groups + g] = square[k]


def turned_round(
    bits: torch.Tensor, code: LiftCode, shape: tuple[int, int], first: int, blocks: int
) -> torch.Tensor:
    """Some rows of a layer on axis ``in`` as columns of one on axis ``out``.

    Args:
        bits: of the layer, `gpu.cpu.bits.laid_out`.
        shape: ``(rows, columns)`` of it.
        first: block of 64 rows to begin with.
        blocks: how many.

    Returns:
        int64, as `laid_out` has them for a matrix of ``(columns, 64 * blocks)`` on axis ``out``.
    """
    rows, columns = shape
    layout = bit_layout(code, "out", (columns, WORD * blocks))
    out = np.zeros(layout.size, np.uint64)
    places = out[: layout.size - SLACK].reshape(blocks, code.lifted, layout.lanes)
    groups, wrap = stream_groups(columns, code), wrapping_groups(code)
    _turn(bits.numpy().view(np.uint64), rows, first, code.lifted, groups, wrap, places)
    return torch.from_numpy(out.view(np.int64))
