"""Bits in words: the storage order of the contract, and exact re-orderings of it.

Bit ``n`` of a stream is bit ``n % 32`` of little-endian uint32 word ``n // 32``; a stored 1 stands
for the sign +1 and a 0 for -1. Every stream is padded with zero bits to a whole word.
"""

import numpy as np
import numpy.typing as npt

from algo.code import LiftCode
from algo.errors import LiftError

WORD = 32

Words = npt.NDArray[np.uint32]
Bits = npt.NDArray[np.uint8]


def stream_groups(weights: int, code: LiftCode) -> int:
    """Groups in a stream of `weights` weights; the last group may be partly unused.

    Raises:
        LiftError: the stream is shorter than one window, so that windows would overlap themselves.
    """
    if weights < 1:
        raise LiftError(f"a stream must hold at least one weight, not {weights}")
    groups = -(-weights // code.group)
    if groups * code.lifted < code.lifted + code.overlap:
        need = -(-(code.lifted + code.overlap) // code.lifted) - 1
        raise LiftError(
            f"a stream of {weights} weights is too narrow for {code.name}: its window of "
            f"{code.lifted + code.overlap} bits needs at least {need * code.group + 1} weights; "
            "use a code with a shorter window or the other axis"
        )
    return groups


def stream_words(groups: int, code: LiftCode) -> int:
    """Whole words that hold a stream of `groups` groups."""
    return -(-groups * code.lifted // WORD)


def pack_bits(bits: Bits) -> Words:
    """uint8 0/1 of shape ``(streams, n)`` to uint32 words of shape ``(streams, ceil(n/32))``."""
    streams, n = bits.shape
    padded = np.zeros((streams, -(-n // WORD) * WORD), np.uint8)
    padded[:, :n] = bits
    return np.packbits(padded, axis=1, bitorder="little").view("<u4").astype(np.uint32, copy=False)


def unpack_bits(words: Words, n: int) -> Bits:
    """The first `n` bits of each stream, uint8 0/1 of shape ``(streams, n)``.

    Raises:
        LiftError: the words are not uint32 of the right count, or a padding bit is set.
    """
    if words.dtype != np.uint32 or words.ndim != 2 or words.shape[1] != -(-n // WORD):
        raise LiftError(
            f"packed words are {words.dtype} of shape {words.shape}; {n} bits per stream need "
            f"uint32 of shape (streams, {-(-n // WORD)})"
        )
    little = np.ascontiguousarray(words, dtype="<u4").view(np.uint8)
    bits = np.unpackbits(little, axis=1, bitorder="little")
    if bits[:, n:].any():
        stream = int(np.argmax(bits[:, n:].any(axis=1)))
        raise LiftError(
            f"stream {stream} has padding bits set after bit {n}: the words are corrupt"
        )
    return bits[:, :n]


def check_stream(groups: int, code: LiftCode) -> None:
    """Raise LiftError where a stream of `groups` groups is shorter than a group's window."""
    if groups < 1 or groups * code.lifted < code.lifted + code.overlap:
        need = -(-(code.lifted + code.overlap) // code.lifted)
        raise LiftError(f"{groups} groups are too few for {code.name}; it needs at least {need}")


def extend_words(words: Words, groups: int, code: LiftCode) -> Words:
    """Repack for kernels that read windows without wrapping round.

    The first V bits of each stream follow its last bit, and one zero word follows those, so that
    any window of at most 32 bits lies within two neighbouring words. Shape
    ``(streams, ceil((G*D + V)/32) + 1)``.
    """
    check_stream(groups, code)
    bits = unpack_bits(words, groups * code.lifted)
    packed = pack_bits(np.concatenate([bits, bits[:, : code.overlap]], axis=1))
    return np.concatenate([packed, np.zeros((len(packed), 1), np.uint32)], axis=1)


def transpose_words(words: Words, n: int) -> Words:
    """Repack a bit matrix ``(streams, n)`` as its transpose ``(n, streams)``.

    The one-bit product wants bits contiguous along its inner dimension; with streams along the
    output channels that dimension runs across the streams.
    """
    return pack_bits(np.ascontiguousarray(unpack_bits(words, n).T))
