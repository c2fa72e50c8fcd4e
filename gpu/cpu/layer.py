"""The integer layer on a CPU: one call for all layers that read one input."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from algo.activations import LARGEST, Digits
from algo.code import LiftCode
from algo.errors import LiftError
from algo.matrix import Axis, PackedMatrix
from gpu.cpu.bits import laid_out
from gpu.cpu.decoded_product import decoded_outputs
from gpu.cpu.finish import WRITTEN
from gpu.cpu.plan import Plan, plan_of
from gpu.cpu.prepare import Activations, readable
from gpu.cpu.product import counted_outputs
from gpu.weights import check_decoded_inner

if TYPE_CHECKING:  # which would import triton
    from gpu.whitening_tensors import WhiteningTensors

# tokens up to which counting bits takes less time than decoding, by digits; measured for 1 to 64
# tokens on layers of 192x576 to 1536x576 (AMD EPYC, AVX-512)
MOST_COUNTED = {1: 32, 2: 22}
MOST_COUNTED_PARITIES = {1: 6, 2: 3}
_TYPES = (torch.float32, torch.float16, torch.bfloat16)
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
        LiftError: the matrix is too wide for int32 sums of decoded weights, which bounds all other
            integers, too; the bias does not fit, or a padding bit of the words is set.
    """
    rows, columns = matrix.shape
    check_decoded_inner(columns)
    if bias is not None and bias.shape != (rows,):
        raise LiftError(f"a bias of shape {tuple(bias.shape)} does not fit {rows} rows")
    return CpuLayer(
        laid_out(matrix),
        matrix.scales.float() * 2.0**-matrix.code.exponent,
        torch.full((rows,), ABSENT, device="cpu")
        if bias is None
        else bias.detach().float().clone(),
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

    Raises:
        LiftError: shapes or types of the arguments do not fit each other.
    """
    plans = _checked(x, whitening, layers, digits)
    if not len(x):
        return x.new_empty((0, sum(layer.shape[0] for layer in layers)))
    given = Activations(readable(x), *whitening)
    dtype = x.dtype if x.dtype in WRITTEN else torch.float32
    if _by_decoding(len(x), layers, digits):
        out = decoded_outputs(given, layers, digits, dtype)
    elif layers[0].axis == "out":
        out = counted_outputs(given, layers, plans, digits, dtype)
    else:  # each layer lifts its activations
        each = [
            counted_outputs(given, [layer], [plan], digits, dtype)
            for layer, plan in zip(layers, plans, strict=True)
        ]
        out = torch.cat(each, dim=1)
    return out if dtype == x.dtype else out.to(x.dtype)


def _checked(
    x: torch.Tensor, whitening: "WhiteningTensors", layers: Sequence[CpuLayer], digits: Digits
) -> list[Plan]:
    """The layers' plans; what kernels take for addresses inside tensors is inside them."""
    left, right, _ = whitening
    n = left.shape[0] * right.shape[0]
    if x.ndim != 2 or x.shape[1] != n or x.dtype not in _TYPES or not x.is_cpu:
        raise LiftError(
            f"activations are {x.dtype} of shape {tuple(x.shape)} on {x.device}; need "
            f"(tokens, {n}) in float32, float16 or bfloat16 on the CPU"
        )
    if digits not in LARGEST:
        raise LiftError(f"digits={digits} is neither 1 (a8) nor 2 (a15)")
    if not layers or any(layer.axis != layers[0].axis for layer in layers):
        raise LiftError("layers of one call need one axis; there are none, or of both")
    plans = [plan_of(layer.code, layer.axis, layer.shape) for layer in layers]
    for (bits, scales, bias, code, _, (rows, columns)), plan in zip(layers, plans, strict=True):
        size = plan.size
        if columns != n or (bits.numel(), scales.numel(), bias.numel()) != (size, rows, rows):
            raise LiftError(
                f"a {rows}x{columns} layer in {code.name} of {n} inputs has {bits.numel()} words, "
                f"{scales.numel()} scales and {bias.numel()} biases; it needs {n} columns, {size} "
                f"words and {rows} of both"
            )
    return plans


def _by_decoding(tokens: int, layers: Sequence[CpuLayer], digits: Digits) -> bool:
    """Whether to decode: for many tokens, and where parities lie across words."""
    parities = any(layer.code.parities for layer in layers)
    if parities and layers[0].axis == "in":
        return True
    return tokens > (MOST_COUNTED_PARITIES if parities else MOST_COUNTED)[digits]
