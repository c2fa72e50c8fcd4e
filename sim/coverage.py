"""What a set of streams has tried of a code and of a design's output."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from algo.code import LiftCode
from algo.packing import Words, unpack_bits


@dataclass(frozen=True)
class Coverage:
    """Counts over all the streams sent.

    Attributes:
        windows_seen: different values of a weight's own window of L bits, for the weight of a
            group that saw the fewest; a block code's codewords.
        windows: 2**L.
        output_bits: width of the output payload.
        output_bits_toggled: those that were 0 in some beat and 1 in another. The lowest bit of a
            weight never changes: a sum of signs times taps has the parity of the taps' sum.
    """

    windows_seen: int
    windows: int
    output_bits: int
    output_bits_toggled: int


def windows_seen(code: LiftCode, groups: int, words: Iterable[Words]) -> int:
    """See `Coverage.windows_seen`."""
    n = groups * code.lifted
    seen: list[set[int]] = [set() for _ in code.starts]
    for streams in words:
        bits = unpack_bits(streams, n).astype(np.uint64)
        first = np.arange(groups)[:, None] * code.lifted
        for start in set(code.starts):
            at = (first + start + np.arange(code.window)) % n
            values = (bits[:, at] << np.arange(code.window, dtype=np.uint64)).sum(axis=2)
            unique = np.unique(values).tolist()
            for row, own in enumerate(code.starts):
                if own == start:
                    seen[row].update(unique)
    return min(len(values) for values in seen)


def toggled(expected: Iterable[tuple[Sequence[int], Sequence[int]]]) -> int:
    """Output bits seen as 0 and as 1, given payloads and their masks, beat by beat of a stream."""
    ones = zeros = 0
    for payloads, masks in expected:
        for n, payload in enumerate(payloads):
            mask = masks[n % len(masks)]
            ones |= payload & mask
            zeros |= ~payload & mask
    return (ones & zeros).bit_count()
