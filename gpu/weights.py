"""A packed matrix as the decoding kernels read it, checked once when a layer is loaded."""

from typing import NamedTuple

import torch

from algo.errors import LiftError
from algo.matrix import Axis, PackedMatrix
from algo.packing import extend_words
from gpu.stack import ABSENT
from gpu.tables import CodeTables, check_decode, code_tables

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
    if columns > MAX_DECODED_INNER:
        raise LiftError(
            f"{columns} inputs are over {MAX_DECODED_INNER}, where an int32 sum of decoded weights "
            "could overflow; split the layer's inputs"
        )
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
        (torch.full((rows,), ABSENT) if bias is None else bias.detach().float()).to(device),
    )
    check_decode(
        weights.words, tables, matrix.groups, torch.int8, weights.stream_weights, matrix.axis
    )
    return weights
