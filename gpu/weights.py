"""A packed matrix as the decoding kernels read it, and the checks of what it is multiplied with.

The weights are checked once, when a layer is loaded.
"""

from typing import NamedTuple

import torch

from algo.errors import LiftError
from algo.matrix import Axis, PackedMatrix
from algo.packing import extend_words
from gpu.planes import Digits
from gpu.stack import ABSENT
from gpu.tables import MAX_ELEMENTS, REAL_TYPES, CodeTables, check_decode, code_tables

# Of a weight's low digit at most 64 is multiplied by a digit of at most 128 in magnitude, so this
# many products of theirs fit an int32 accumulator; those of the high digit are smaller.
MAX_DECODED_INNER = (2**31 - 1) // (64 * 128)


class PackedWeights(NamedTuple):
    """Weights of one layer.

    Attributes:
        words: int32 ``(streams, ceil((G*D + V)/32) + 1)``, `algo.packing.extend_words`.
        tables: the code's, on the same device.
        rows, columns: shape of the matrix, outputs and inputs.
        axis: whether streams are rows (``in``) or columns (``out``).
        scales: float32 ``(rows,)``, row scales times ``2**-exponent``.
        bias: float32 ``(rows,)``; `gpu.stack.ABSENT` where there is none.
    """

    words: torch.Tensor
    tables: CodeTables
    rows: int
    columns: int
    axis: Axis
    scales: torch.Tensor
    bias: torch.Tensor

    @property
    def stream_weights(self) -> int:
        """Weights in one stream."""
        return self.columns if self.axis == "in" else self.rows

    @property
    def groups(self) -> int:
        """Groups in one stream."""
        return -(-self.stream_weights // self.tables.taps.shape[0])


def check_decoded_inner(columns: int) -> None:
    """Raise LiftError where int32 sums of so many decoded weights could overflow."""
    if columns > MAX_DECODED_INNER:
        raise LiftError(
            f"{columns} inputs are over {MAX_DECODED_INNER}, where an int32 sum of decoded weights "
            "could overflow; split the layer's inputs"
        )


def packed_weights(
    matrix: PackedMatrix,
    bias: torch.Tensor | None = None,
    device: torch.device | str = "cpu",
) -> PackedWeights:
    """Repack a matrix for the decoding kernels.

    Args:
        matrix: a layer's weights, of any code.
        bias: ``(rows,)``; none by default.
        device: where to.

    Raises:
        LiftError: the matrix is too wide for int32 sums or too large for 32-bit indices, or the
            bias does not fit it.
    """
    rows, columns = matrix.shape
    check_decoded_inner(columns)
    if bias is not None and bias.shape != (rows,):
        raise LiftError(f"a bias of shape {tuple(bias.shape)} does not fit {rows} rows")
    words = torch.from_numpy(extend_words(matrix.words, matrix.groups, matrix.code))
    tables = code_tables(matrix.code, device)
    scales = matrix.scales.float() * 2.0**-matrix.code.exponent
    weights = PackedWeights(
        words.view(torch.int32).to(device),
        tables,
        rows,
        columns,
        matrix.axis,
        scales.to(device),
        (
            torch.full((rows,), ABSENT, dtype=torch.float32)
            if bias is None
            else bias.detach().float()
        ).to(device),
    )
    check_decode(
        weights.words, tables, matrix.groups, torch.int8, weights.stream_weights, matrix.axis
    )
    return weights


def check_digits(weights: PackedWeights, digits: Digits, dtype: torch.dtype) -> int:
    """The columns of a product with digits.

    Raises:
        LiftError: a shape, dtype or device does not fit.
    """
    planes, _, step, per_token = digits
    if per_token not in (1, 2):
        raise LiftError(f"{per_token} digits per token are neither 1 (a8) nor 2 (a15)")
    if dtype not in (*REAL_TYPES, torch.int64):
        raise LiftError(f"outputs are float32, float16, bfloat16 or int64, not {dtype}")
    columns = step.shape[0] * per_token if step.ndim == 1 else -1
    if step.dtype != torch.float32 or columns < 0:
        raise LiftError(
            f"steps are {step.dtype} of shape {tuple(step.shape)}; need float32 (tokens,)"
        )
    if (
        planes.dtype != torch.int8
        or planes.ndim != 3
        or planes.shape[0] != 8
        or planes.shape[1] < columns
        or 8 * planes.shape[2] < weights.columns
    ):
        raise LiftError(
            f"planes are {planes.dtype} of shape {tuple(planes.shape)}; {columns} columns of "
            f"{weights.columns} digits need int8 (8, N', Kb') that holds them"
        )
    if planes.numel() > MAX_ELEMENTS:
        raise LiftError(
            f"planes of {planes.numel()} digits are over {MAX_ELEMENTS}; take fewer tokens"
        )
    _check_out(weights, len(step), planes)
    return columns


def check_float(weights: PackedWeights, x: torch.Tensor) -> None:
    """Whether floating-point activations fit.

    Raises:
        LiftError: the shape, dtype or device does not.
    """
    if x.dtype not in (torch.float16, torch.bfloat16):
        raise LiftError(f"activations are {x.dtype}; need float16 or bfloat16")
    if x.ndim != 2 or x.shape[1] != weights.columns:
        raise LiftError(
            f"activations have shape {tuple(x.shape)}; the layer needs (tokens, {weights.columns})"
        )
    if x.numel() > MAX_ELEMENTS:
        raise LiftError(
            f"activations of {x.numel()} numbers are over {MAX_ELEMENTS}; take fewer tokens"
        )
    _check_out(weights, len(x), x)


def _check_out(weights: PackedWeights, tokens: int, x: torch.Tensor) -> None:
    if tokens * weights.rows > MAX_ELEMENTS:
        raise LiftError(
            f"{tokens} tokens of {weights.rows} outputs are over {MAX_ELEMENTS}; take fewer tokens"
        )
    if x.device != weights.words.device:
        raise LiftError(
            f"activations are on {x.device} and weights on {weights.words.device}; move them to "
            "one device"
        )
