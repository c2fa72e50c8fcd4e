"""Decode once, multiply densely: prefill, where one decoding serves hundreds of columns.

Rows are decoded and multiplied a part at a time, so that no more than `MOST_WEIGHTS` decoded
weights exist at once. With digits everything is an exact integer: both int8 parts of the weights
times the int8 digits in int32 (`torch._int_mm`; on a CPU float64 products, in which every partial
sum is an integer below 2**53), put together in int64 and rounded once. Floating-point activations
meet real weights of their own type, each rounded once from the exact one; how the sum is rounded is
the library's affair. The kernel is compiled and interpreted, not run on a GPU.
"""

from collections.abc import Iterator

import torch

from gpu import reference
from gpu.planes import Digits
from gpu.weights import PackedWeights, check_digits, check_float

MOST_WEIGHTS = 1 << 25  # 64 MiB of two int8 planes or of float16
MOST_SUMS = 1 << 23  # of a part: with their copies in int64 and float64 some 600 MB at the most
_SMALLEST, _MULTIPLE = 32, 8  # columns and sizes that the int8 product of CUDA takes
_PART = 16  # rows of a part are a multiple of it, so that stores are aligned


def dense_digits(
    weights: PackedWeights,
    digits: Digits,
    dtype: torch.dtype,
    most_weights: int = MOST_WEIGHTS,
) -> torch.Tensor:
    """The integer layer, exact.

    Args:
        weights: the layer.
        digits: of its whitened inputs, one (a8) or two (a15) per token.
        dtype: float32, float16 or bfloat16; int64 for the sums themselves, without scale or bias.
        most_weights: weights decoded at a time, fewer where columns are many; at least one row is.

    Returns:
        ``(tokens, rows)`` of `dtype`, what `gpu.decode_dot.launch_digits` gives.

    Raises:
        LiftError: a shape, dtype or device does not fit.
    """
    columns = check_digits(weights, digits, dtype)
    planes, _, step, per_token = digits
    # planes hold inner index 8k + s at (s, k)
    x = planes[:, :columns].permute(1, 2, 0).reshape(columns, 8 * planes.shape[2])
    x = x[:, : weights.columns]
    out = planes.new_empty((len(step), weights.rows), dtype=dtype)
    for rows in _parts(weights, most_weights, columns):
        low, high = decoded_rows(weights, rows, torch.int8, scaled=False)
        sums = _integers(x, low).to(torch.int64) + (_integers(x, high).to(torch.int64) << 7)
        sums = sums.view(len(step), per_token, sums.shape[1])
        combined = sums[:, 0] if per_token == 1 else sums[:, 0] + (sums[:, 1] << 7)
        if dtype == torch.int64:
            out[:, rows] = combined
            continue
        # 45 bits times 8 are exact in float64; only the product with the step rounds
        exact = combined.double() * weights.scales[rows].double()
        out[:, rows] = (rounded_once(exact, step.double()[:, None]) + weights.bias[rows]).to(dtype)
    return out


def dense_float(
    weights: PackedWeights, x: torch.Tensor, most_weights: int = MOST_WEIGHTS
) -> torch.Tensor:
    """The floating-point layer.

    Args:
        weights: the layer.
        x: whitened inputs, float16 or bfloat16 ``(tokens, columns)``.
        most_weights: weights decoded at a time, fewer where columns are many; at least one row is.

    Returns:
        ``(tokens, rows)`` of the dtype of `x`: the product, rounded, then the bias, rounded.

    Raises:
        LiftError: the shape, dtype or device of `x` does not fit.
    """
    check_float(weights, x)
    out = x.new_empty((len(x), weights.rows))
    for rows in _parts(weights, most_weights, len(x)):
        product = x @ decoded_rows(weights, rows, x.dtype, scaled=True).T
        out[:, rows] = (product.float() + weights.bias[rows]).to(x.dtype)
    return out


def decoded_rows(
    weights: PackedWeights, rows: slice, dtype: torch.dtype, scaled: bool
) -> torch.Tensor:
    """Some rows of the matrix, see `gpu.ops.decode`."""
    count = rows.stop - rows.start
    scales = weights.scales[rows] if scaled else None
    if weights.axis == "in":
        words, first, kept = weights.words[rows], 0, weights.columns
    else:
        words, first, kept = weights.words, rows.start, count
    if words.device.type == "cpu":
        return reference.decode(
            words, weights.tables, weights.groups, dtype, kept, weights.axis, scales, first
        )
    from gpu.decode import decode_kernel, launch

    with torch.cuda.device(words.device):
        return launch(
            decode_kernel, words, weights.tables, dtype, kept, weights.axis, scales, first=first
        )


def _parts(weights: PackedWeights, most_weights: int, columns: int) -> Iterator[slice]:
    step = max(1, min(most_weights // weights.columns, MOST_SUMS // max(1, columns)))
    step -= step % _PART if step > _PART else 0
    for first in range(0, weights.rows, step):
        yield slice(first, min(first + step, weights.rows))


def _integers(x: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    """``x @ decoded.T`` of int8, exact: int32 on a GPU, float64 of integers on a CPU."""
    if x.device.type == "cpu":
        return x.double() @ decoded.double().T
    columns, inner = x.shape
    rows = len(decoded)
    fill = -inner % _MULTIPLE
    wide = torch.nn.functional.pad(x, (0, fill, 0, max(_SMALLEST - columns, -columns % _MULTIPLE)))
    tall = torch.nn.functional.pad(decoded, (0, fill, 0, -rows % _MULTIPLE))
    return torch._int_mm(wide, tall.T)[:columns, :rows]


def rounded_once(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """float32 of ``a * b`` as if the product were exact, `algo.activations.product_rounded_once`.

    Both are float64, `b` of at most 26 significant bits.
    """
    product = a * b
    shifted = a * (2.0**27 + 1)
    high = shifted - (shifted - a)
    lost = (high * b - product) + (a - high) * b
    word = product.view(torch.int64)
    # one unit away from zero where what was lost has the product's sign, else towards it
    moved = word + torch.where((lost > 0) == (product > 0), 1, -1)
    odd = torch.where(((lost > 0) | (lost < 0)) & (word & 1 == 0), moved, word)
    return odd.view(torch.float64).float()
