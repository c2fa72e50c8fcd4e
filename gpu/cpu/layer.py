"""The integer layer on a CPU: one call for all layers that read one input."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from algo.activations import Digits
from algo.code import LiftCode
from algo.errors import LiftError
from algo.matrix import Axis, PackedMatrix
from gpu.cpu.bits import laid_out
from gpu.cpu.decoded_product import decoded_outputs
from gpu.cpu.finish import WRITTEN
from gpu.cpu.prepare import Activations, readable
from gpu.cpu.product import counted_outputs

if TYPE_CHECKING:  # which would import triton
    from gpu.whitening_tensors import WhiteningTensors

# tokens up to which counting bits takes less time than decoding, by digits; measured from T = 1 to
# 128 on layers of 192x576 to 1536x576, where both take about the same
MOST_COUNTED = {1: 16, 2: 12}
MOST_COUNTED_PARITIES = {1: 5, 2: 3}
ABSENT = -0.0  # a bias that changes nothing, not even the sign of a zero


class CpuLayer(NamedTuple):
    """Weights of one layer.

    Attributes:
        bits: int64, `gpu.cpu.bits.laid_out`.
        scales: float32 ``(rows,)``, row scales times ``2**-exponent``.
        bias: float32 ``(rows,)``; -0 where there is none.
        code, axis, shape: as in `PackedMatrix`.
    """

    bits: torch.Tensor
    scales: torch.Tensor
    bias: torch.Tensor
    code: LiftCode
    axis: Axis
    shape: tuple[int, int]


def cpu_layer(matrix: PackedMatrix, bias: torch.Tensor | None = None) -> CpuLayer:
    """Repack a matrix for the CPU's kernels.

    Args:
        matrix: a layer's weights, of any code.
        bias: ``(rows,)``; none by default.

    Raises:
        LiftError: the bias does not fit, or a padding bit of the words is set.
    """
    rows = matrix.shape[0]
    if bias is not None and bias.shape != (rows,):
        raise LiftError(f"a bias of shape {tuple(bias.shape)} does not fit {rows} rows")
    return CpuLayer(
        laid_out(matrix),
        matrix.scales.float() * 2.0**-matrix.code.exponent,
        torch.full((rows,), ABSENT) if bias is None else bias.detach().float().clone(),
        matrix.code,
        matrix.axis,
        matrix.shape,
    )


def cpu_linear(
    x: torch.Tensor, whitening: "WhiteningTensors", layers: Sequence[CpuLayer], digits: Digits
) -> torch.Tensor:
    """``(tokens, inputs)`` to ``(tokens, all rows)``: bit for bit `ReferenceLinear` with digits.

    Args:
        x: float32, float16 or bfloat16, not whitened; rows at any distance. A token that holds NaN
            or infinity gives NaN.
        whitening: `gpu.whitening_tensors.whitening_tensors`.
        layers: of one input, in the order of their outputs.
        digits: 1 (a8) or 2 (a15).

    Returns:
        ``(tokens, all rows)`` in the dtype of `x`.
    """
    given = Activations(readable(x), *whitening)
    dtype = x.dtype if x.dtype in WRITTEN else torch.float32
    if _by_decoding(len(x), layers, digits):
        out = decoded_outputs(given, layers, digits, dtype)
    elif layers[0].axis == "out":
        out = counted_outputs(given, layers, digits, dtype)
    else:  # each layer lifts its activations
        each = [counted_outputs(given, [layer], digits, dtype) for layer in layers]
        out = torch.cat(each, dim=1)
    return out if dtype == x.dtype else out.to(x.dtype)


def _by_decoding(tokens: int, layers: Sequence[CpuLayer], digits: Digits) -> bool:
    """Whether to decode: for many tokens, and where parities lie across words."""
    parities = any(layer.code.parities for layer in layers)
    if parities and layers[0].axis == "in":
        return tokens > 0
    return tokens > (MOST_COUNTED_PARITIES if parities else MOST_COUNTED)[digits]
