"""Streams for decoding, made for the moment from what the one-bit product keeps.

A layer's bits are held once. Where a path decodes, the bits of one segment of a stack are laid out
as decoding reads them: turned round on axis ``out``, continued past their end on axis ``in``.
"""

import torch

from algo.errors import LiftError
from gpu.interpret import Run
from gpu.stack import Segment, Stack
from gpu.tables import CodeTables
from gpu.weights import PackedWeights, check_decoded_inner


def segment_weights(
    run: Run, stack: Stack, segment: Segment, tables: CodeTables, columns: int
) -> PackedWeights:
    """One layer of a stack as the decoding kernels read it.

    Args:
        run: `gpu.interpret.as_is` or an interpreter's.
        stack: the layers.
        segment: which one, of ``stack.rows()``.
        tables: of the layer's own code, on the stack's device.
        columns: inputs of the layers.

    Raises:
        LiftError: there are so many inputs that sums of decoded weights could overflow.
    """
    check_decoded_inner(columns)
    rows = stack.words[segment.first_bit : segment.first_bit + segment.bits]
    outputs = slice(segment.first_output, segment.first_output + segment.outputs)
    if stack.axis == "out":
        from gpu.transpose import stream_words

        words = stream_words(run, rows, columns, segment.bits, tables.overlap)
    else:
        groups = -(-columns // tables.taps.shape[0])
        words = continued(rows, groups * tables.lifted, tables.overlap)
    return PackedWeights(
        words, tables, segment.outputs, columns, stack.axis, stack.scales[outputs],
        stack.bias[outputs],
    )  # fmt: skip


def continued(words: torch.Tensor, bits: int, overlap: int) -> torch.Tensor:
    """Streams followed by their first bits, `algo.packing.extend_words` on any device.

    Args:
        words: int32 ``(streams, W)``, zero after `bits` bits; W may be more than they need.
        bits: G*D, at least `overlap`.
        overlap: V, at most 32 bits that follow again.

    Returns:
        int32 ``(streams, ceil((bits + overlap)/32) + 1)``.

    Raises:
        LiftError: the words do not hold the bits, or the overlap is too long.
    """
    held = -(-bits // 32)
    if words.dtype != torch.int32 or words.ndim != 2 or words.shape[1] < held:
        raise LiftError(
            f"words are {words.dtype} of shape {tuple(words.shape)}; streams of {bits} bits need "
            f"int32 (streams, {held} or more)"
        )
    if not 0 <= overlap <= min(bits, 32):
        raise LiftError(f"an overlap of {overlap} bits of {bits}; at most 32 of them can follow")
    out = words.new_zeros((words.shape[0], -(-(bits + overlap) // 32) + 1))
    out[:, :held] = words[:, :held]
    # in int64 no shift meets a sign; both halves go back as the 32 bits they are
    first = (words[:, 0].to(torch.int64) & ((1 << overlap) - 1)) << bits % 32
    out[:, bits // 32] |= _as_int32(first & 0xFFFFFFFF)
    if bits // 32 + 1 < out.shape[1]:
        out[:, bits // 32 + 1] |= _as_int32(first >> 32)
    return out


def _as_int32(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values >= 1 << 31, values - (1 << 32), values).to(torch.int32)
