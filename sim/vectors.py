"""Streams to try a decoder on: corner words, random ones, every codeword, those of a real layer."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from algo.code import LiftCode
from algo.errors import LiftError
from algo.packing import Bits, Words, pack_bits

MAX_LISTED_BITS = 16  # of a codeword: 2**16 of them are a few seconds of simulation


@dataclass(frozen=True)
class Vectors:
    """Packed streams and what each is called.

    Attributes:
        names: one for each stream.
        words: uint32 ``(streams, stream_words)``.
    """

    names: tuple[str, ...]
    words: Words

    def __add__(self, other: "Vectors") -> "Vectors":
        return Vectors(self.names + other.names, np.concatenate([self.words, other.words]))


def corner_vectors(code: LiftCode, groups: int) -> Vectors:
    """The streams that find the usual mistakes: constant, alternating, with single bits.

    The walking bits are ``D + V + 1`` apart, so that no group's window holds two of them. The
    streams with a single bit at one end show whether and where the last windows wrap round.
    """
    n = groups * code.lifted
    at = np.arange(n)
    walking = at % (code.lifted + code.overlap + 1) == 0
    corners = {
        "zeros": at < 0,
        "ones": at >= 0,
        "alternating from 0": at % 2 == 1,
        "alternating from 1": at % 2 == 0,
        "walking one": walking,
        "walking zero": ~walking,
        "first bit alone": at == 0,
        "last bit alone": at == n - 1,
        "all but the first bit": at != 0,
        "all but the last bit": at != n - 1,
    }
    bits: Bits = np.stack(list(corners.values())).astype(np.uint8)
    return Vectors(tuple(corners), pack_bits(bits))


def random_vectors(code: LiftCode, groups: int, streams: int, seed: int) -> Vectors:
    """Independent fair bits; the same seed gives the same streams."""
    bits = np.random.default_rng(seed).integers(0, 2, (streams, groups * code.lifted), np.uint8)
    return Vectors(tuple(f"random {n}" for n in range(streams)), pack_bits(bits))


def every_codeword(code: LiftCode, groups: int) -> Vectors:
    """All 2**D codewords of a block code, in order; the last stream is filled up with zeros.

    Raises:
        LiftError: the code slides, so that words do not stand alone, or has too many of them.
    """
    if code.overlap or code.lifted > MAX_LISTED_BITS:
        raise LiftError(
            f"{code.name} cannot be tried on every codeword: that takes a block code of at most "
            f"{MAX_LISTED_BITS} bits per group"
        )
    streams = -(-(1 << code.lifted) // groups)
    values = np.zeros(streams * groups, np.uint32)
    values[: 1 << code.lifted] = np.arange(1 << code.lifted)
    bits = (values[:, None] >> np.arange(code.lifted) & 1).astype(np.uint8)
    names = tuple(f"codewords {n}" for n in range(streams))
    return Vectors(names, pack_bits(bits.reshape(streams, -1)))


def layer_vectors(folder: Path, layer: str, code: LiftCode, groups: int, streams: int) -> Vectors:
    """The first streams of a layer of a checkpoint, as they are stored.

    Raises:
        LiftError: the checkpoint was altered, there is no such layer, or it is of another code or
            stream length.
    """
    from algo.checkpoint import Checkpoint

    checkpoint = Checkpoint(folder)
    checkpoint.verify()
    matrix = checkpoint.matrix(layer)
    if matrix.code != code:
        raise LiftError(
            f"layer {layer} is in {matrix.code!r}, not in {code!r}; a checkpoint's own code is "
            "listed by `liftquant inspect`"
        )
    if matrix.groups != groups:
        raise LiftError(
            f"streams of layer {layer} have {matrix.groups} groups, not {groups}; give "
            f"--weights {matrix.groups * code.group}"
        )
    words = matrix.words[:streams]
    return Vectors(tuple(f"{layer} {n}" for n in range(len(words))), words)
