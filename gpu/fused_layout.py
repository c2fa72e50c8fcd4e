"""Which outputs each program of the fused product makes, and the taps it makes them with.

What a stack's programs work on is laid out once, when it is loaded; see `gpu.fused`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from algo.errors import LiftError
from algo.lifted import MAX_DIGITS, digit_range
from gpu.stack import Segment, Stack
from gpu.tiles import Tile

LEAST_OUTPUTS = 16  # of a program: what a tensor core's tile has


class Programs(NamedTuple):
    """What the programs of a stack and a tile work on; made once, on the stack's device.

    Attributes:
        table: int32 ``(programs, 6)``: the segment's first bit and bits, the program's first bit
            within it, its first output, how many, and where its taps start in `bands`.
        bands: int8, matrices ``(outputs, tile.rows)``: the taps of each output over the rows.
        outputs: outputs of a program, padded to a power of two.
        split: digits of base 256 that a sum of the one-bit product has; 0 on axis ``in``.
    """

    table: torch.Tensor
    bands: torch.Tensor
    outputs: int
    split: int


def programs(stack: Stack, tile: Tile) -> Programs:
    """Lay out `stack` over programs of `tile`.

    Raises:
        LiftError: a window is wider than the tile.
    """
    split = 0 if stack.axis == "in" else sum_digits(stack.bounds.sums)
    layers = [(s, window_starts(s, stack.starts.cpu().numpy())) for s in stack.rows()]
    spans = [(s, at, span) for s, at in layers for span in spans_of(at, s.window, tile.rows)]
    outputs = max(LEAST_OUTPUTS, 1 << (max(n for _, _, (_, n) in spans) - 1).bit_length())
    outputs = outputs if split else tile.rows
    bands: dict[bytes, int] = {}  # where each different one starts
    taps = stack.taps.cpu().numpy()
    table = []
    for segment, starts, (first, count) in spans:
        band = b""
        if split:
            band = _band(segment, starts[first : first + count], first, taps, (outputs, tile.rows))
        where = bands.setdefault(band, len(bands))
        output = segment.first_output + first
        table.append((segment.first_bit, segment.bits, int(starts[first]), output, count, where))
    device = stack.words.device
    flat = np.frombuffer(b"".join(bands) or bytes(LEAST_OUTPUTS), np.int8).copy()
    return Programs(
        torch.tensor(table, dtype=torch.int32, device=device),
        torch.from_numpy(flat).to(device),
        outputs,
        split,
    )


def window_starts(segment: Segment, starts: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """int64 ``(outputs,)``: the first bit of each output's window within its segment."""
    weight = np.arange(segment.outputs)
    own = starts[segment.starts : segment.starts + segment.group].astype(np.int64)
    return weight // segment.group * segment.lifted + own[weight % segment.group]


def efficiency(stack: Stack, tile: Tile) -> float:
    """Rows of the bit matrix over rows that the programs multiply."""
    return stack.words.shape[0] / (len(programs(stack, tile).table) * tile.rows)


def spans_of(starts: npt.NDArray[np.int64], window: int, rows: int) -> list[tuple[int, int]]:
    """First output and number of outputs of every program of a segment.

    Args:
        starts: int64 ``(outputs,)``, first bits of the windows, none before the one before it.
        window: bits of a window.
        rows: bits of a program.

    Raises:
        LiftError: a window is wider than that.
    """
    if window > rows:
        raise LiftError(f"a window of {window} bits does not fit a tile of {rows} rows")
    spans = []
    first = 0
    while first < len(starts):
        end = int(np.searchsorted(starts, starts[first] + rows - window, side="right"))
        spans.append((first, min(end - first, rows)))
        first += spans[-1][1]
    return spans


def _band(
    segment: Segment,
    starts: npt.NDArray[np.int64],
    first: int,
    taps: npt.NDArray[np.int8],
    shape: tuple[int, int],
) -> bytes:
    """Taps of the outputs whose windows begin at `starts`, over a program's rows."""
    own = taps[segment.taps : segment.taps + segment.group * segment.window]
    of_weight = own.reshape(segment.group, segment.window)
    band = np.zeros(shape, np.int8)
    for o, start in enumerate(starts - starts[0]):
        band[o, start : start + segment.window] = of_weight[(first + o) % segment.group]
    return band.tobytes()


def sum_digits(largest: int) -> int:
    """Digits of base 256 that integers of at most this magnitude have."""
    return next(n for n in range(1, MAX_DIGITS + 1) if largest <= digit_range(256, n)[1])
