"""A quantised matrix: packed streams, row scales, and the way between them and real weights.

On axis ``in`` streams are the rows of the whitened matrix, on axis ``out`` its columns; either way
weight (r, c) is ``scales[r] * 2**-exponent * acc[r, c]``. Scales are bfloat16: the
product of an 8-bit significand and a 12-bit accumulator is exact in float32, so decoding never
rounds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from algo.code import LiftCode
from algo.decode import Accs, decode_words
from algo.errors import LiftError
from algo.packing import Words, pack_bits, stream_groups, stream_words, unpack_bits

Axis = Literal["in", "out"]
AXES: tuple[Axis, ...] = get_args(Axis)
SCALE_BITS = 16
_LARGEST_SCALE = 1e30  # far above any weight, and its products stay finite in float32


@lru_cache(maxsize=4096)
def word_shape(shape: tuple[int, int], code: LiftCode, axis: Axis) -> tuple[int, int]:
    """``(streams, words)`` of the packed words of a matrix of `shape` ``(rows, columns)``.

    Raises:
        LiftError: its streams are too short for the code.
    """
    rows, columns = shape
    streams, weights = (rows, columns) if axis == "in" else (columns, rows)
    return streams, stream_words(stream_groups(weights, code), code)


def layer_word_shape(
    name: str, shape: tuple[int, int], code: LiftCode, axis: Axis
) -> tuple[int, int]:
    """`word_shape` of a layer, whose name the error tells."""
    try:
        return word_shape(shape, code, axis)
    except LiftError as error:
        raise LiftError(f"layer {name} ({shape[0]}x{shape[1]}): {error}") from None


@dataclass(frozen=True, eq=False)
class PackedMatrix:
    """Whitened weights of one linear layer in low-bit form.

    Attributes:
        words: uint32 ``(streams, words)``; streams are rows (axis ``in``) or columns (``out``).
        scales: bfloat16 ``(rows,)``.
        shape: ``(rows, columns)``, that is (outputs, inputs).

    Raises:
        LiftError: shapes or dtypes do not fit each other, or a scale is not finite.
    """

    code: LiftCode
    axis: Axis
    shape: tuple[int, int]
    words: Words
    scales: torch.Tensor

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise LiftError(f"axis {self.axis!r} is none of {', '.join(AXES)}")
        if min(self.shape) < 1:
            raise LiftError(f"a matrix of shape {self.shape} holds no weights")
        expected = word_shape(self.shape, self.code, self.axis)
        if self.words.dtype != np.uint32 or self.words.shape != expected:
            raise LiftError(
                f"packed words are {self.words.dtype} of shape {self.words.shape}; a "
                f"{self.shape[0]}x{self.shape[1]} matrix in {self.code.name} on axis {self.axis} "
                f"needs uint32 of shape {expected}"
            )
        if self.scales.dtype != torch.bfloat16 or self.scales.shape != self.shape[:1]:
            raise LiftError(
                f"scales are {self.scales.dtype} of shape {tuple(self.scales.shape)}; "
                f"{self.shape[0]} rows need bfloat16 of shape ({self.shape[0]},)"
            )
        if not bool((self.scales.abs() < _LARGEST_SCALE).all()):
            raise LiftError(f"a row scale is not below {_LARGEST_SCALE:g}: the scales are corrupt")

    @property
    def streams(self) -> int:
        return self.shape[0] if self.axis == "in" else self.shape[1]

    @property
    def stream_weights(self) -> int:
        """Weights in one stream."""
        return self.shape[1] if self.axis == "in" else self.shape[0]

    @property
    def groups(self) -> int:
        """Groups in one stream."""
        return stream_groups(self.stream_weights, self.code)

    @property
    def payload_bits(self) -> int:
        """Bits stored for the matrix: whole words and scales."""
        return self.words.size * 32 + self.scales.numel() * SCALE_BITS

    @property
    def bits_per_weight(self) -> float:
        return self.payload_bits / (self.shape[0] * self.shape[1])

    def as_matrix(self, streams: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Decoded streams ``(streams, G*d)`` as the matrix, padding weights dropped."""
        kept = streams[:, : self.stream_weights]
        return kept if self.axis == "in" else kept.T

    def accumulators(self) -> Accs:
        """int16 ``(rows, columns)``: the integer weights, by the oracle."""
        return self.as_matrix(decode_words(self.words, self.groups, self.code))

    def dequantise(self) -> torch.Tensor:
        """float32 ``(rows, columns)``: whitened real weights, exact (no rounding)."""
        accs = torch.from_numpy(np.ascontiguousarray(self.accumulators()))
        return accs.float() * (self.scales.float() * 2.0**-self.code.exponent)[:, None]


def row_slice(matrix: PackedMatrix, start: int, stop: int) -> tuple[PackedMatrix, int]:
    """Some rows as a matrix that decodes to the same integers, for layers shared by processes.

    Rows `start` to `stop` are rows ``offset`` to ``offset + stop - start`` of the result. On axis
    ``in`` these are all it has. On axis ``out``, where a stream holds all rows, it has the groups
    of these rows and those into which their windows reach, so that it wraps round in the windows
    of other rows alone; where that would be all groups it has all rows. Rows that were not asked
    for have the scale 0, and what they decode to means nothing.

    Args:
        matrix: any matrix.
        start, stop: at least one row.

    Returns:
        The smaller matrix and ``offset``.

    Raises:
        LiftError: the rows are none, or not all in the matrix.
    """
    rows, code = matrix.shape[0], matrix.code
    if not 0 <= start < stop <= rows:
        raise LiftError(f"rows {start} to {stop} are no part of a matrix of {rows} rows")
    if matrix.axis == "in":
        kept = (stop - start, matrix.shape[1])
        words, scales = matrix.words[start:stop], matrix.scales[start:stop]
        return PackedMatrix(code, "in", kept, words.copy(), scales.clone()), 0
    first = start // code.group
    groups = -(-stop // code.group) - first + -(-code.overlap // code.lifted)
    if groups >= matrix.groups:
        first, groups, words, kept = 0, matrix.groups, matrix.words, matrix.shape
    else:
        # the last windows may go on in the first groups of the stream
        taken = (first + np.arange(groups)) % matrix.groups
        bits = unpack_bits(matrix.words, matrix.groups * code.lifted)
        grouped = bits.reshape(matrix.streams, matrix.groups, code.lifted)[:, taken]
        words = pack_bits(grouped.reshape(matrix.streams, groups * code.lifted))
        # no more than say how many groups there are: every row costs a kernel time
        kept = (max(stop - first * code.group, (groups - 1) * code.group + 1), matrix.shape[1])
    offset = start - first * code.group
    scales = torch.zeros(kept[0], dtype=torch.bfloat16)
    scales[offset : offset + stop - start] = matrix.scales[start:stop]
    return PackedMatrix(code, "out", kept, words, scales), offset


def quantise_matrix(
    weights: torch.Tensor,
    code: LiftCode,
    axis: Axis,
    workers: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> PackedMatrix:
    """Nearest codewords for a whitened matrix, and the least-squares row scales for them.

    Args:
        weights: ``(rows, columns)``, floating point.
        code: any code.
        axis: direction of the streams.
        workers: threads, every processor by default.
        on_progress: called with the number of weights finished since the last call.

    Raises:
        LiftError: a weight is NaN or infinite, or the matrix is too narrow for the code.
    """
    from algo.search import encode  # brings numba, which nobody who reads a checkpoint needs

    if axis not in AXES:
        raise LiftError(f"axis {axis!r} is none of {', '.join(AXES)}")
    real = weights.detach().float()
    if not bool(torch.isfinite(real).all()):
        row, column = (~torch.isfinite(real)).nonzero()[0].tolist()
        raise LiftError(
            f"weight ({row}, {column}) is {real[row, column].item()}; "
            "repair the model, NaN and infinity cannot be quantised"
        )
    if not real.numel():
        raise LiftError(f"a matrix of shape {tuple(real.shape)} holds no weights")
    spread = real.double().square().mean(dim=1).sqrt()  # in float32 the squares could overflow
    unit = (real / torch.where(spread > 0, spread, 1.0)[:, None]).float().numpy()
    rows, columns = unit.shape
    targets = unit if axis == "in" else np.ascontiguousarray(unit.T)
    words = pack_bits(encode(targets, code, workers, on_progress))
    trial = PackedMatrix(code, axis, (rows, columns), words, torch.ones(rows, dtype=torch.bfloat16))
    decoded = trial.dequantise().double()
    energy = decoded.square().sum(1)
    fitted = (real.double() * decoded).sum(1) / torch.where(energy > 0, energy, 1.0)
    return PackedMatrix(code, axis, (rows, columns), words, fitted.to(torch.bfloat16))
