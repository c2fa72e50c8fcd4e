"""The integer layer on a CPU: one call for all layers that read one input."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from algo.activations import Digits, product_rounded_once, quantise_activations
from algo.code import LiftCode
from algo.decode import decode_words
from algo.errors import LiftError
from algo.lifted import from_digits
from algo.matrix import Axis, PackedMatrix
from algo.packing import stream_groups
from algo.whitening import ordered_transform
from gpu.cpu.bits import laid_out, stored_words

if TYPE_CHECKING:  # which would import triton
    from gpu.whitening_tensors import WhiteningTensors

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
        whitening: `gpu.whiten.whitening_tensors`.
        layers: of one input, in the order of their outputs.
        digits: 1 (a8) or 2 (a15).

    Returns:
        ``(tokens, all rows)`` in the dtype of `x`.
    """
    left, right, pre = whitening
    whitened = ordered_transform(x, left.T, right[:, : len(right)], pre)
    finite = torch.isfinite(whitened).all(dim=1)
    parts, step = quantise_activations(torch.where(finite[:, None], whitened, 0.0), digits)
    step = torch.where(finite, step, torch.nan)
    integers = from_digits(parts.numpy(), 128)
    out = []
    for layer in layers:
        weights = layer.shape[0 if layer.axis == "out" else 1]
        words = stored_words(layer.bits, layer.code, layer.axis, layer.shape)
        accs = decode_words(words, stream_groups(weights, layer.code), layer.code)[:, :weights]
        matrix = (accs.T if layer.axis == "out" else accs).astype(np.int64)
        sums = (integers @ matrix.T).astype(np.float64) * layer.scales.double().numpy()
        rounded = product_rounded_once(sums, step.double().numpy()[:, None])
        out.append((torch.from_numpy(rounded) + layer.bias).to(x.dtype))
    return torch.cat(out, dim=1)
