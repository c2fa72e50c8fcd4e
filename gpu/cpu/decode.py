"""The operator ``liftquant::decode`` on a CPU: windows are looked up in the tables of the code."""

import numba
import numpy as np
import torch

from algo.matrix import Axis
from gpu.reference import two_planes
from gpu.tables import CodeTables, as_int32, decoded_shape


def decode(
    words: torch.Tensor,
    tables: CodeTables,
    dtype: torch.dtype,
    weights: int,
    axis: Axis,
    scales: torch.Tensor | None,
) -> torch.Tensor:
    """`gpu.ops.decode` on checked arguments, on the CPU."""
    acc = np.empty((words.shape[0], weights), np.int16)
    _decode(
        as_int32(words).numpy().view(np.uint32), tables.starts.numpy(), tables.lifted,
        tables.cells.numpy(), tables.turns.numpy(), tables.crossing.numpy(), acc,
    )  # fmt: skip
    decoded = torch.from_numpy(acc if axis == "in" else acc.T)
    shape = decoded_shape(len(acc), weights, axis, dtype, scales is not None)
    out = torch.empty(shape, dtype=dtype, device="cpu")
    if scales is not None:
        return out.copy_(decoded * scales[:, None])
    if len(shape) == 2:
        return out.copy_(decoded)
    for plane, values in zip(out, two_planes(decoded, dtype), strict=True):
        plane.copy_(values)
    return out


@numba.njit(nogil=True, cache=True)
def _decode(words, starts, lifted, cells, turns, crossing, acc):  # type: ignore[no-untyped-def]
    """``acc[s, w]`` of extended streams; see `gpu.cells` for the tables."""
    group, size = cells.shape[1], cells.shape[2]
    bits = 0
    while 1 << bits < size:
        bits += 1
    weights, mask = acc.shape[1], size - 1
    for stream in range(acc.shape[0]):
        row, out = words[stream], acc[stream]
        first = 0
        for group_start in range(0, weights, group):
            for i in range(min(group, weights - group_start)):
                bit = first + starts[i]
                word = bit >> 5
                both = np.uint64(row[word]) | np.uint64(row[word + 1]) << np.uint64(32)
                window = np.int64((both >> np.uint64(bit & 31)) & np.uint64(0xFFFFFFFF))
                total, turned = 0, 0
                for c in range(cells.shape[0]):
                    own = window & mask
                    total += cells[c, i, own]
                    turned ^= turns[c, own]
                    window >>= bits
                for q in range(crossing.shape[0]):
                    total += crossing[q, i, turned >> 8 * q & 255]
                out[group_start + i] = total
            first += lifted
