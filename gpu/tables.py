"""What the kernels need to know of a code, as small tensors, and the checks both operators share.

One kernel serves every code because everything that makes a code is here: the taps over a weight's
own window, where the windows start, and the parity masks.
"""

from typing import NamedTuple

import numpy as np
import torch

from algo.code import LiftCode
from algo.errors import LiftError

# Flat indices are int32 inside the kernels; the slack is for the last, partly filled block.
MAX_ELEMENTS = 2**31 - 2**20

# The plane of bit 7 is read as -128, so a byte of bits adds at most 128*128 to its accumulator.
MAX_BYTES = (2**31 - 1) // 2**14
MAX_INNER = 8 * MAX_BYTES


class CodeTables(NamedTuple):
    """A code as the operators take it.

    Attributes:
        taps: int8 ``(d, L + P)``, `LiftCode.window_taps`.
        starts: int32 ``(d,)``, first window bit of each weight.
        parities: int32 ``(P,)``, masks over the window; bit 31 is the sign bit.
        lifted: D, bits per group.
        overlap: V, bits a window reaches into the following groups.
    """

    taps: torch.Tensor
    starts: torch.Tensor
    parities: torch.Tensor
    lifted: int
    overlap: int


def code_tables(code: LiftCode, device: torch.device | str = "cpu") -> CodeTables:
    """The tables of `code` on `device`; make them once and keep them."""
    masks = np.array(code.parities, dtype=np.uint32).view(np.int32)
    return CodeTables(
        taps=torch.from_numpy(code.window_taps.copy()).to(device),
        starts=torch.tensor(code.starts, dtype=torch.int32, device=device),
        parities=torch.from_numpy(masks).to(device),
        lifted=code.lifted,
        overlap=code.overlap,
    )


def check_decode(
    words: torch.Tensor, tables: CodeTables, groups: int, dtype: torch.dtype
) -> tuple[int, int]:
    """The shape ``(streams, groups*d)`` of the decoded weights.

    Raises:
        LiftError: a shape, dtype or device does not fit; the message names it.
    """
    taps, starts, parities, lifted, overlap = tables
    if taps.dtype != torch.int8 or taps.ndim != 2:
        raise LiftError(f"taps are {taps.dtype} of shape {tuple(taps.shape)}; need int8 (d, L + P)")
    if starts.dtype != torch.int32 or starts.shape != taps.shape[:1]:
        raise LiftError(
            f"starts are {starts.dtype} of shape {tuple(starts.shape)}; need int32 of shape "
            f"({taps.shape[0]},), one per weight of the group"
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
    if groups < 1 or lifted < 1 or overlap < 0:
        raise LiftError(
            f"groups={groups}, lifted={lifted}, overlap={overlap}: groups and lifted must be at "
            "least 1 and overlap at least 0"
        )
    if groups * lifted < lifted + overlap:
        raise LiftError(
            f"{groups} groups of {lifted} bits are shorter than a window; use at least "
            f"{-(-(lifted + overlap) // lifted)}"
        )
    if dtype not in (torch.int16, torch.float16):
        raise LiftError(f"decoded weights are int16 or float16, not {dtype}")
    _check_words(words, -(-(groups * lifted + overlap) // 32) + 1)
    _check_devices(words, taps, starts, parities)
    shape = (words.shape[0], groups * taps.shape[0])
    if max(shape[0] * shape[1], words.shape[0] * words.shape[1], groups * lifted) > MAX_ELEMENTS:
        raise LiftError(
            f"{shape[0]} streams of {shape[1]} weights are over {MAX_ELEMENTS} elements, which is "
            "as far as 32-bit indices reach; decode fewer streams at a time"
        )
    return shape


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


def as_int32(words: torch.Tensor) -> torch.Tensor:
    """Packed words as contiguous int32: torch knows little arithmetic on uint32."""
    return words.contiguous().view(torch.int32)


def _check_words(words: torch.Tensor, count: int) -> None:
    if words.dtype not in (torch.int32, torch.uint32):
        raise LiftError(f"packed words are {words.dtype}; need int32 or uint32")
    if words.ndim != 2 or words.shape[0] < 1 or words.shape[1] != count:
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
