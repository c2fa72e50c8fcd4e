"""Layers that read one input, as one one-bit matrix with a segment for each layer.

q, k and v of an attention, or gate and up, are multiplied in one launch. Segments may be in
different codes on axis ``out``; on axis ``in`` what is multiplied, the lifted activation, depends
on the code, so there all layers share it. To the kernels an ``in`` layer is a segment in the
identity code: one bit per output, one tap of 1. Parities are refused.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from algo.activations import Digits
from algo.code import LiftCode
from algo.errors import LiftError
from algo.lifted import Bounds, bounds, one_bit_words
from algo.matrix import Axis, PackedMatrix
from gpu.tables import MAX_ELEMENTS

ROW_WORDS = 4  # rows are whole units of 16 bytes, which is what one load brings
ABSENT = -0.0  # adding it changes no number, not even the sign of a zero


class Segment(NamedTuple):
    """One layer of a stack, as a row of `Stack.segments`.

    Attributes:
        first_bit: its first row of the bit matrix.
        bits: its rows, G*D of axis ``out``.
        lifted: D.
        group: d.
        window: L, taps per weight.
        first_output: its first output.
        outputs: its outputs.
        taps: where its ``(d, L)`` taps start in `Stack.taps`.
        starts: where the d first window bits start in `Stack.starts`.
    """

    first_bit: int
    bits: int
    lifted: int
    group: int
    window: int
    first_output: int
    outputs: int
    taps: int
    starts: int


class Stack(NamedTuple):
    """Several layers as the kernels take them; all tensors on one device.

    Attributes:
        words: int32 ``(R, W)``, a row of bits for every bit of every segment; W is a multiple of
            `ROW_WORDS` and padding bits are zero.
        segments: int32 ``(layers, 9)``, rows of `Segment`.
        taps: int8, the segments' taps one after the other.
        starts: int32, the segments' window starts one after the other.
        scales: float32 ``(outputs,)``, row scales times ``2**-exponent``, which is exact.
        bias: float32 ``(outputs,)``; `ABSENT` where a layer has none.
        axis: direction of the streams.
        bounds: largest integers, over all layers.
    """

    words: torch.Tensor
    segments: torch.Tensor
    taps: torch.Tensor
    starts: torch.Tensor
    scales: torch.Tensor
    bias: torch.Tensor
    axis: Axis
    bounds: Bounds

    @property
    def outputs(self) -> int:
        """Outputs of all layers together."""
        return self.scales.shape[0]

    @property
    def row_bytes(self) -> int:
        """Bytes in a row of the bit matrix, padding included."""
        return 4 * self.words.shape[1]

    def rows(self) -> list[Segment]:
        """The segments in numbers, read back from their device."""
        return [Segment(*row) for row in self.segments.tolist()]

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors by name, as buffers of a module; ``stack._replace(**tensors)`` undoes it."""
        return {name: t for name, t in self._asdict().items() if isinstance(t, torch.Tensor)}

    def to(self, device: torch.device | str) -> "Stack":
        """The same on another device."""
        moved: dict[str, Any] = {name: t.to(device) for name, t in self.tensors().items()}
        return self._replace(**moved)


def stack_layers(
    matrices: Sequence[PackedMatrix],
    digits: Digits,
    biases: Sequence[torch.Tensor | None] | None = None,
) -> Stack:
    """Make a stack, on the CPU.

    Args:
        matrices: layers of one input, in the order of their outputs.
        digits: 1 (a8) or 2 (a15) int8 digits per activation; the bounds depend on it.
        biases: floating point ``(rows,)`` or None for each layer; taken as float32.

    Raises:
        LiftError: there is no layer; axes or inputs differ, or codes on axis ``in``; a code has
            parities; a layer's integers could overflow; a bias does not fit; or the stack is too
            large for 32-bit indices.
    """
    if digits not in (1, 2):
        raise LiftError(f"digits={digits} is neither 1 (a8) nor 2 (a15)")
    check_layers(matrices, biases)
    first = matrices[0]
    largest = stack_bounds(first.axis, [(m.shape, m.code) for m in matrices], digits)
    words = np.concatenate([one_bit_words(m) for m in matrices])
    padded = np.zeros((len(words), -(-words.shape[1] // ROW_WORDS) * ROW_WORDS), np.uint32)
    padded[:, : words.shape[1]] = words
    if 4 * padded.size > MAX_ELEMENTS:
        raise LiftError(
            f"a stack of {len(words)} rows of {4 * padded.shape[1]} bytes is over {MAX_ELEMENTS} "
            "bytes, which is as far as 32-bit indices reach; stack fewer layers"
        )
    segments, taps, starts = _segments(matrices)
    scales = [m.scales.float() * 2.0**-m.code.exponent for m in matrices]
    given = [None] * len(matrices) if biases is None else list(biases)
    return Stack(
        words=torch.from_numpy(padded.view(np.int32)),
        segments=torch.tensor(segments, dtype=torch.int32),
        taps=torch.from_numpy(np.concatenate(taps)),
        starts=torch.from_numpy(np.concatenate(starts)),
        scales=torch.cat(scales),
        bias=torch.cat([_bias(m, b) for m, b in zip(matrices, given, strict=True)]),
        axis=first.axis,
        bounds=largest,
    )


def stack_bounds(
    axis: Axis, layers: Sequence[tuple[tuple[int, int], LiftCode]], digits: Digits
) -> Bounds:
    """The largest integers over layers of these shapes and codes; raises as `bounds` does."""
    each = [bounds(shape, code, axis, digits) for shape, code in layers]
    return Bounds(*(max(values) for values in zip(*each, strict=True)))


def check_layers(
    matrices: Sequence[PackedMatrix], biases: Sequence[torch.Tensor | None] | None
) -> None:
    """Raise LiftError where layers cannot be run side by side, or biases do not fit them."""
    if not matrices:
        raise LiftError("a stack needs at least one layer")
    for matrix in matrices[1:]:
        _check_alike(matrices[0], matrix)
    if biases is None:
        return
    if len(biases) != len(matrices):
        raise LiftError(f"{len(biases)} biases for {len(matrices)} layers; give one, or None, each")
    for matrix, bias in zip(matrices, biases, strict=True):
        _bias(matrix, bias)


def _check_alike(first: PackedMatrix, other: PackedMatrix) -> None:
    if other.axis != first.axis:
        raise LiftError(
            f"layers on axis {first.axis} and on axis {other.axis} cannot be one stack: one lifts "
            "its input, the other does not; run them apart"
        )
    if other.shape[1] != first.shape[1]:
        raise LiftError(
            f"layers of {first.shape[1]} and of {other.shape[1]} inputs cannot be one stack; only "
            "layers of one input can"
        )
    linear = not (first.code.parities or other.code.parities)
    if linear and first.axis == "in" and other.code != first.code:
        raise LiftError(
            f"layers in {first.code!r} and in {other.code!r} cannot be one stack on axis in, where "
            "the lifted input depends on the code; run them apart"
        )


def _segments(
    matrices: Sequence[PackedMatrix],
) -> tuple[list[Segment], list[npt.NDArray[np.int8]], list[npt.NDArray[np.int32]]]:
    segments: list[Segment] = []
    taps: list[npt.NDArray[np.int8]] = []
    starts: list[npt.NDArray[np.int32]] = []
    bit = output = tap = start = 0
    for matrix in matrices:
        code, rows = matrix.code, matrix.shape[0]
        if matrix.axis == "in":
            code = LiftCode(1, 1, 0, (1,), np.ones((1, 1), np.int8), 0)
        groups = rows if matrix.axis == "in" else matrix.groups
        bits = groups * code.lifted
        segments.append(
            Segment(bit, bits, code.lifted, code.group, code.window, output, rows, tap, start)
        )
        taps.append(code.window_taps.reshape(-1))
        starts.append(np.array(code.starts, np.int32))
        bit, output = bit + bits, output + rows
        tap, start = tap + taps[-1].size, start + starts[-1].size
    return segments, taps, starts


def _bias(matrix: PackedMatrix, bias: torch.Tensor | None) -> torch.Tensor:
    rows = matrix.shape[0]
    if bias is None:
        return torch.full((rows,), ABSENT, dtype=torch.float32)
    if bias.shape != (rows,) or not bias.is_floating_point():
        raise LiftError(
            f"bias is {bias.dtype} of shape {tuple(bias.shape)}; a layer of {rows} outputs needs "
            f"floating point of shape ({rows},)"
        )
    return bias.detach().float().cpu()
