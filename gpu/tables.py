"""What the kernels need to know of a code, as small tensors, and the checks both operators share.

One kernel serves every code because everything that makes a code is here: the taps over a weight's
own window, where the windows start, and the parity masks. The same taps are here a second time, as
the kernels read them: summed up in tables, see `gpu.cells`.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from algo.code import LiftCode
from algo.errors import LiftError
from algo.lifted import MAX_INNER
from algo.matrix import AXES, Axis
from gpu.cells import code_sums

# Flat indices are int32 inside the kernels; the slack is for the last, partly filled block.
MAX_ELEMENTS = 2**31 - 2**20

MAX_BYTES = MAX_INNER // 8  # of a row of bits

# What decoded weights may be: integers, exactly, or real weights, which take scales.
INTEGER_TYPES = (torch.int16, torch.float16, torch.int8, torch.bfloat16)
REAL_TYPES = (torch.float16, torch.bfloat16, torch.float32)


class CodeTables(NamedTuple):
    """A code as the operators take it.

    Attributes:
        taps: int8 ``(d, L + P)``, `LiftCode.window_taps`.
        starts: int32 ``(d,)``, first window bit of each weight.
        parities: int32 ``(P,)``, masks over the window; bit 31 is the sign bit.
        lifted: D, bits per group.
        overlap: V, bits a window reaches into the following groups.
        cells: int16 ``(C, d, 2**B)``; entry ``(c, i, x)`` is what window bits ``[c*B, (c+1)*B)``
            add to weight ``i`` where they read ``x``. Bits past the window have no say.
        turns: int32 ``(C, 2**B)``; bit m of entry ``(c, x)`` is set where crossing parity m names
            an odd number of zeros among these bits.
        crossing: int16 ``(Q, d, 256)``; entry ``(q, i, y)`` is what crossing parities 8q to 8q + 7
            add to weight ``i`` where the turns of all cells together read ``y`` there. Q is 0
            where no parity crosses.
    """

    taps: torch.Tensor
    starts: torch.Tensor
    parities: torch.Tensor
    lifted: int
    overlap: int
    cells: torch.Tensor
    turns: torch.Tensor
    crossing: torch.Tensor

    @property
    def cell_bits(self) -> int:
        """B, the bits of a cell."""
        return self.cells.shape[2].bit_length() - 1


def code_tables(code: LiftCode, device: torch.device | str = "cpu") -> CodeTables:
    """The tables of `code` on `device`; make them once and keep them."""
    masks = np.array(code.parities, dtype=np.uint32).view(np.int32)
    cells, turns, crossing = code_sums(code)
    return CodeTables(
        taps=torch.from_numpy(code.window_taps.copy()).to(device),
        starts=torch.tensor(code.starts, dtype=torch.int32, device=device),
        parities=torch.from_numpy(masks).to(device),
        lifted=code.lifted,
        overlap=code.overlap,
        cells=torch.from_numpy(cells).to(device),
        turns=torch.from_numpy(turns).to(device),
        crossing=torch.from_numpy(crossing).to(device),
    )


def check_decode(
    words: torch.Tensor,
    tables: CodeTables,
    groups: int,
    dtype: torch.dtype,
    weights: int | None = None,
    axis: Axis = "in",
    scales: torch.Tensor | None = None,
) -> tuple[int, ...]:
    """The shape of the decoded weights, see `gpu.ops.decode`.

    Raises:
        LiftError: a shape, dtype or device does not fit; the message names it.
    """
    check_tables(tables)
    lifted, overlap, group = tables.lifted, tables.overlap, tables.taps.shape[0]
    if groups < 1:
        raise LiftError(f"groups={groups}; it must be at least 1")
    if groups * lifted < lifted + overlap:
        raise LiftError(
            f"{groups} groups of {lifted} bits are shorter than a window; use at least "
            f"{-(-(lifted + overlap) // lifted)}"
        )
    allowed = INTEGER_TYPES if scales is None else REAL_TYPES
    if dtype not in allowed:
        names = ", ".join(str(d).removeprefix("torch.") for d in allowed)
        what = "without scales" if scales is None else "with scales"
        raise LiftError(f"decoded weights are {names} {what}, not {dtype}")
    as_axis(axis)
    weights = groups * group if weights is None else weights
    if not (groups - 1) * group < weights <= groups * group:
        raise LiftError(
            f"{weights} weights per stream are not what {groups} groups of {group} hold; it must "
            f"be {(groups - 1) * group + 1} to {groups * group}"
        )
    _check_words(words, -(-(groups * lifted + overlap) // 32) + 1, least=0)
    streams = words.shape[0]
    rows = streams if axis == "in" else weights
    if scales is not None:
        if scales.dtype != torch.float32 or scales.shape != (rows,):
            raise LiftError(
                f"scales are {scales.dtype} of shape {tuple(scales.shape)}; need float32 of shape "
                f"({rows},), one per row"
            )
        _check_devices(words, scales)
    _check_devices(words, tables.taps, *(t for t in tables if isinstance(t, torch.Tensor)))
    shape = decoded_shape(streams, weights, axis, dtype, scales is not None)
    if max(math.prod(shape), streams * words.shape[1], groups * lifted) > MAX_ELEMENTS:
        raise LiftError(
            f"{streams} streams of {weights} weights are over {MAX_ELEMENTS} elements, which is "
            "as far as 32-bit indices reach; decode fewer streams at a time"
        )
    return shape


def check_tables(tables: CodeTables) -> None:
    """Whether tables fit each other.

    Raises:
        LiftError: a shape or dtype does not; the message names it.
    """
    taps, starts, parities, lifted, overlap, cells, turns, crossing = tables
    if taps.dtype != torch.int8 or taps.ndim != 2:
        raise LiftError(f"taps are {taps.dtype} of shape {tuple(taps.shape)}; need int8 (d, L + P)")
    group = taps.shape[0]
    if starts.dtype != torch.int32 or starts.shape != (group,):
        raise LiftError(
            f"starts are {starts.dtype} of shape {tuple(starts.shape)}; need int32 of shape "
            f"({group},), one per weight of the group"
        )
    if parities.dtype != torch.int32 or parities.ndim != 1:
        raise LiftError(
            f"parities are {parities.dtype} of shape {tuple(parities.shape)}; need int32 (P,)"
        )
    window = taps.shape[1] - parities.shape[0]
    if not 1 <= window <= 32:
        raise LiftError(
            f"{taps.shape[1]} taps for {parities.shape[0]} parities leave a window of {window} "
            "bits; it must be 1 to 32"
        )
    if lifted < 1 or overlap < 0:
        raise LiftError(
            f"lifted={lifted}, overlap={overlap}: lifted must be at least 1 and overlap at least 0"
        )
    sums = cells.shape[2] if cells.ndim == 3 else 0
    bits = sums.bit_length() - 1
    if (
        cells.dtype != torch.int16
        or sums < 2
        or sums != 1 << bits
        or cells.shape != (-(-window // bits), group, sums)
        or not cells.is_contiguous()
    ):
        raise LiftError(
            f"cells are {cells.dtype} of shape {tuple(cells.shape)}; need contiguous int16 of "
            f"shape (C, {group}, 2**B) with C cells of B bits for a window of {window}"
        )
    if turns.dtype != torch.int32 or turns.shape != cells.shape[::2] or not turns.is_contiguous():
        raise LiftError(
            f"turns are {turns.dtype} of shape {tuple(turns.shape)}; need contiguous int32 of "
            f"shape {tuple(cells.shape[::2])}"
        )
    if (
        crossing.dtype != torch.int16
        or crossing.ndim != 3
        or crossing.shape[0] > 4
        or crossing.shape[1:] != (group, 256)
        or not crossing.is_contiguous()
    ):
        raise LiftError(
            f"crossing parities are {crossing.dtype} of shape {tuple(crossing.shape)}; need "
            f"contiguous int16 (Q, {group}, 256) with Q at most 4"
        )


def decoded_shape(
    streams: int, weights: int, axis: Axis, dtype: torch.dtype, scaled: bool
) -> tuple[int, ...]:
    """Rows and columns of the decoded matrix, after its planes where it takes two."""
    shape = (streams, weights) if axis == "in" else (weights, streams)
    return (2, *shape) if dtype in (torch.int8, torch.bfloat16) and not scaled else shape


def check_bitmm(words: torch.Tensor, digits: torch.Tensor) -> tuple[int, int]:
    """The shape ``(R, N)`` of the product.

    Raises:
        LiftError: a shape, dtype or device does not fit, or int32 could overflow.
    """
    if digits.dtype != torch.int8 or digits.ndim != 2 or min(digits.shape) < 1:
        raise LiftError(
            f"digits are {digits.dtype} of shape {tuple(digits.shape)}; need int8 (K, N)"
        )
    inner, columns = digits.shape
    if inner > MAX_INNER:
        raise LiftError(
            f"an inner dimension of {inner} is over {MAX_INNER}, where an int32 accumulator could "
            "overflow; split it and add the products"
        )
    _check_words(words, -(-inner // 32))
    _check_devices(words, digits)
    planes = (inner + 2047) * (columns + 63)  # as large as padding to tiles can make them
    if max(words.shape[0] * max(columns, 4 * words.shape[1]), planes) > MAX_ELEMENTS:
        raise LiftError(
            f"a product of {words.shape[0]} x {inner} by {inner} x {columns} is over "
            f"{MAX_ELEMENTS} elements, which is as far as 32-bit indices reach; split it"
        )
    return words.shape[0], columns


def as_axis(axis: str) -> Axis:
    """`axis` itself; LiftError where it is none."""
    for known in AXES:
        if axis == known:
            return known
    raise LiftError(f"axis {axis!r} is none of {', '.join(AXES)}")


def as_int32(words: torch.Tensor) -> torch.Tensor:
    """Packed words as contiguous int32: torch knows little arithmetic on uint32."""
    return words.contiguous().view(torch.int32)


def rows_as_int32(words: torch.Tensor) -> torch.Tensor:
    """Packed words as int32 whose rows are contiguous, at any distance from each other.

    Of a view with longer rows nothing is copied.
    """
    # the last row may end where the memory does: its distance is bounded by what is addressed
    near = words.stride(1) == 1 and 0 <= words.stride(0) * words.shape[0] <= MAX_ELEMENTS
    return (words if near else words.contiguous()).view(torch.int32)


def _check_words(words: torch.Tensor, count: int, least: int = 1) -> None:
    if words.dtype not in (torch.int32, torch.uint32):
        raise LiftError(f"packed words are {words.dtype}; need int32 or uint32")
    if words.ndim != 2 or words.shape[0] < least or words.shape[1] != count:
        raise LiftError(
            f"packed words have shape {tuple(words.shape)}; need {count} words per stream: "
            f"(streams, {count})"
        )


def _check_devices(first: torch.Tensor, *others: torch.Tensor) -> None:
    for other in others:
        if other.device != first.device:
            raise LiftError(
                f"tensors are on {first.device} and {other.device}; move them to one device"
            )
