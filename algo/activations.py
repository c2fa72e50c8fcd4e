"""Integers for activations, and integer results: the rest of the numeric contract.

Activations become int8 digits per token: one digit (a8) or two (a15, in effect lossless). Products
with integer weights are summed exactly, then scaled once in float32, or requantised to int8 by an
integer multiplier and a shift as accelerators do it.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from algo.errors import LiftError
from algo.matrix import PackedMatrix

Digits = Literal[1, 2]
BASE = 128  # weight of the upper digit
LARGEST = {1: 127, 2: 127 * BASE}  # largest integer: the upper digit stays within +-127


def quantise_activations(x: torch.Tensor, digits: Digits) -> tuple[torch.Tensor, torch.Tensor]:
    """Per-token integers, rounded half to even.

    Args:
        x: ``(tokens, n)``, finite floating point.
        digits: 1 (a8) or 2 (a15).

    Returns:
        int8 ``(digits, tokens, n)``, least significant digit first, so that the integer is
        ``sum_k digit[k] * 128**k``; and the float32 step ``(tokens,)`` it counts in.

    Raises:
        LiftError: `digits` is neither 1 nor 2, or x has a NaN or infinite entry.
    """
    if digits not in LARGEST:
        raise LiftError(f"digits={digits} is neither 1 (a8) nor 2 (a15)")
    if not bool(torch.isfinite(x).all()):
        raise LiftError("activations hold NaN or infinity, which have no integer")
    real = x.double()
    largest = LARGEST[digits]
    step = (real.abs().amax(dim=-1) / largest).float()
    step = torch.where(step > 0, step, torch.ones_like(step))  # an all-zero token
    integers = torch.round(real / step.double()[:, None]).clamp(-largest, largest).to(torch.int32)
    if digits == 1:
        return integers[None].to(torch.int8), step
    upper = torch.div(integers + BASE // 2, BASE, rounding_mode="floor")
    return torch.stack([integers - upper * BASE, upper]).to(torch.int8), step


def integer_product(matrix: PackedMatrix, digits: torch.Tensor) -> npt.NDArray[np.int64]:
    """Exact ``(tokens, rows)`` sums of integer weights times the digits' integers.

    Order of summation, split and batch cannot matter: everything is in int64.
    """
    integers = sum(d.numpy().astype(np.int64) * BASE**k for k, d in enumerate(digits))
    return np.asarray(integers @ matrix.accumulators().astype(np.int64).T)


def integer_layer(
    matrix: PackedMatrix,
    x: torch.Tensor,
    digits: Digits,
    bias: torch.Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """The integer layer of the contract: ``(tokens, rows)`` of `dtype`.

    The exact sum times the row's scale and the token's step is rounded to float32 once; the bias,
    as float32, is added in float32; the sum is cast to `dtype`. So there is one rounding, one more
    for a bias and one more for a dtype narrower than float32, and these are the same everywhere.

    Args:
        matrix: weights.
        x: whitened activations ``(tokens, columns)``.
        digits: 1 or 2.
        bias: ``(rows,)`` or None.
        dtype: floating-point dtype of the result.
    """
    parts, step = quantise_activations(x, digits)
    sums = integer_product(matrix, parts).astype(np.float64)
    scale = (matrix.scales.double() * 2.0**-matrix.code.exponent).numpy()
    # a sum of 45 bits times a scale of 8 is exact; only the product with the step rounds
    product = product_rounded_once(sums * scale, step.double().numpy()[:, None])
    out = torch.from_numpy(product)
    return (out if bias is None else out + bias.detach().float()).to(dtype)


def product_rounded_once(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """``a * b`` rounded to float32 once, as if the product were exact in between.

    The float64 product is made odd in its last bit where it is not exact, which keeps a second
    rounding from seeing a false tie (Boldo and Melquiond, IEEE Trans. Computers 57(4), 2008).
    """
    a, b = np.broadcast_arrays(a, b)
    product = a * b
    split = 2.0**27 + 1  # Dekker's: halves whose products are exact
    a_high = a * split - (a * split - a)
    b_high = b * split - (b * split - b)
    a_low, b_low = a - a_high, b - b_high
    lost = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    even = (product.view(np.int64) & 1) == 0
    towards = np.where(lost > 0, np.inf, -np.inf)
    odd = np.where((lost != 0) & even, np.nextafter(product, towards), product)
    return odd.astype(np.float32)


def requantise(
    sums: npt.NDArray[np.int64], multiplier: int, shift: int, bits: int = 8
) -> npt.NDArray[np.int64]:
    """``sums * multiplier / 2**shift``, rounded half away from zero, saturated to `bits` bits.

    Raises:
        LiftError: the multiplier is not in 0..2**31-1, or shift or bits not in 1..62 and 2..32.
    """
    if not (0 <= multiplier < 1 << 31 and 1 <= shift <= 62 and 2 <= bits <= 32):
        raise LiftError(f"multiplier={multiplier}, shift={shift}, bits={bits}: out of range")
    sums = np.asarray(sums, np.int64)  # products of int32 would wrap
    largest = max(int(sums.max()), -int(sums.min())) if sums.size else 0
    if largest * multiplier + (1 << (shift - 1)) >= 1 << 63 or largest >= 1 << 63:
        raise LiftError("the products do not fit in 64 bits; use a smaller multiplier and shift")
    magnitude = (np.abs(sums) * multiplier + (1 << (shift - 1))) >> shift
    limit = 1 << (bits - 1)
    saturated: npt.NDArray[np.int64] = np.clip(np.sign(sums) * magnitude, -limit, limit - 1)
    return saturated
