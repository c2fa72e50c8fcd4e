"""A code's sums as tables, so that a weight is looked up and not added up.

A window is cut into cells of neighbouring bits, and a table holds what a cell adds to a weight for
every value of its bits, parities that lie within the cell included. Parities that cross cells are
looked up, too: for every value of a cell's bits a table holds which of these parities the bits turn
round. The exclusive or of the cells' entries has one bit for each, and indexes tables of sums in
its turn.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from algo.code import LiftCode
from algo.errors import LiftError

Sums = npt.NDArray[np.int16]

# A window is one cell where the tables of a group then hold no more sums than this, 128 KiB of
# them; cells of a byte otherwise.
MAX_CELL_SUMS = 1 << 16
_BYTE = 8


def code_sums(code: LiftCode) -> tuple[Sums, npt.NDArray[np.int32], Sums]:
    """The tables `cells`, `turns` and `crossing` of a code.

    Raises:
        LiftError: more parities cross cells than an int32 has bits.
    """
    window = code.window
    bits = window if code.group << window <= MAX_CELL_SUMS else _BYTE
    values = np.arange(1 << bits)
    cells = np.zeros((-(-window // bits), code.group, 1 << bits), np.int16)
    taps = code.window_taps.astype(np.int16)[:, :, None]
    for j in range(window):
        cells[j // bits] += taps[:, j] * _signs(~values >> j % bits)
    turns = np.zeros((len(cells), 1 << bits), np.int64)
    crossing = np.zeros((0, code.group, 256), np.int16)
    crossed = 0
    for m, mask in enumerate(code.parities):
        # what the mask names in each cell, and whether that many of them are zeros
        named = [mask >> c * bits & (1 << bits) - 1 for c in range(len(cells))]
        odd = [np.bitwise_count(~values & own) & 1 for own in named]
        (first, *others) = (c for c, own in enumerate(named) if own)
        if not others:
            cells[first] += taps[:, window + m] * _signs(odd[first])
            continue
        if crossed % _BYTE == 0:
            crossing = np.concatenate(
                [crossing, np.zeros_like(crossing, shape=(1, *crossing.shape[1:]))]
            )
        crossing[-1] += taps[:, window + m] * _signs(np.arange(256) >> crossed % _BYTE)
        turns |= np.array(odd, np.int64) << crossed
        crossed += 1
    if crossed > 32:
        raise LiftError(
            f"{crossed} parities of {code.name} reach over the bytes of its window; the kernels "
            "take up to 32"
        )
    return cells, turns.astype(np.uint32).view(np.int32), crossing


def _signs(odd: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    """-1 where the lowest bit is set, else +1."""
    return 1 - 2 * (odd & 1).astype(np.int16)
