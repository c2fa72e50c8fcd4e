"""What the kernels need to know of a layer besides its bits."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from algo.code import LiftCode
from algo.matrix import Axis
from gpu.cpu import fields as f
from gpu.cpu.bits import bit_layout, wrapping_groups
from gpu.cpu.vectors import COUNTED

CHUNK = 64  # lanes of a piece of work at most, those counted twice included
LINE = CHUNK + 2 * COUNTED  # of a class's sums: vectors may begin at any lane of the piece


def _table(code: LiftCode, axis: Axis, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """What the product needs to know of a layer, as the kernel reads it.

    Where bits lie is as an offset in words from the lane's own, for a bit of class c and s groups
    further on ``c * lanes + s``.
    """
    layout = bit_layout(code, axis, shape)
    if axis == "in":  # a row's sum is the layer's: one class, one tap of 1
        wrap, group, starts, taps = 0, 1, (0,), np.ones((1, 1), np.int64)
        window, parities = 1, []
    else:
        wrap, group, starts = wrapping_groups(code), code.group, code.starts
        taps, window = code.window_taps.astype(np.int64), code.window
        parities = [[j for j in range(window) if mask >> j & 1] for mask in code.parities]
    groups = layout.lanes - wrap
    # few enough for several threads, but not many times as many as the lanes counted twice
    quarter = -(-layout.lanes // (4 * COUNTED))
    chunk = min(CHUNK, COUNTED * max(quarter, 1 + wrap // 4)) - wrap
    tap_table, terms, parity_table = [], [], []
    for i, start in enumerate(starts):
        for j in range(window):
            place = start + j
            further, source = divmod(place, layout.classes)
            tap_table += [int(taps[i, j]), source, further]
            terms += [int(np.float64(taps[i, j]).view(np.int64)), source * LINE + further]
        for m, members in enumerate(parities):
            places = [start + j for j in members]
            offsets = [p % layout.classes * layout.lanes + p // layout.classes for p in places]
            # a product of an even number of signs is +1 where the bits' exclusive or is 0
            sign = 1 if len(members) % 2 else -1
            padding = [0] * (f.MOST_MEMBERS - len(members))
            parity_table += [len(members), sign * int(taps[i, window + m]), *offsets, *padding]
    head = [0] * f.P_FIELDS
    head[f.P_CLASSES], head[f.P_LANES], head[f.P_GROUPS] = layout.classes, layout.lanes, groups
    head[f.P_GROUP], head[f.P_ROWS], head[f.P_WRAP] = group, shape[0], wrap
    head[f.P_TAPS], head[f.P_PARITIES] = window, len(parities)
    head[f.P_CHUNK], head[f.P_PIECES] = chunk, -(-groups // chunk)
    classes = [c * layout.lanes for c in range(layout.classes)]
    head[f.P_OFFSETS] = f.P_FIELDS
    head[f.P_TAP_TABLE] = head[f.P_OFFSETS] + len(classes)
    head[f.P_TERMS] = head[f.P_TAP_TABLE] + len(tap_table)
    head[f.P_PARITY_TABLE] = head[f.P_TERMS] + len(terms)
    head[f.P_SIZE] = head[f.P_PARITY_TABLE] + len(parity_table)
    return np.array([*head, *classes, *tap_table, *terms, *parity_table], np.int64)


class Plan(NamedTuple):
    """A plan, where it lies, its pieces of work, and words of 64 inner indices."""

    table: npt.NDArray[np.int64]
    address: int
    pieces: int
    words: int


@lru_cache(maxsize=4096)
def plan_of(code: LiftCode, axis: Axis, shape: tuple[int, int]) -> Plan:
    """The plan of a layer; of the next one of its shape and code, the same."""
    table = _table(code, axis, shape)
    words = bit_layout(code, axis, shape).words
    return Plan(table, table.ctypes.data, int(table[f.P_PIECES]), words)
