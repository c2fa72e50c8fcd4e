"""Packed words as input beats, expected weights as output beats; plain integers."""

from typing import Any

import numpy as np
import numpy.typing as npt

from algo.errors import LiftError
from algo.packing import Words
from hw.geometry import Geometry
from hw.output import ACC_WIDTH

Weights = npt.NDArray[np.signedinteger[Any]]


def input_beats(words: Words, geometry: Geometry) -> list[int]:
    """Packed streams, uint32 ``(streams, stream_words)``, as payloads of `beat_bits` bits.

    Stream by stream, `beats_in` beats each; spare words of a stream's last beat are zero.

    Raises:
        LiftError: the words are not uint32 of that shape.
    """
    if words.dtype != np.uint32 or words.ndim != 2 or words.shape[1] != geometry.stream_words:
        raise LiftError(
            f"packed words are {words.dtype} of shape {words.shape}; {geometry.groups} groups of "
            f"{geometry.code.name} need uint32 of shape (streams, {geometry.stream_words})"
        )
    padded = np.zeros((len(words), geometry.beats_in * geometry.beat_words), "<u4")
    padded[:, : words.shape[1]] = words
    return _integers(padded.reshape(-1, geometry.beat_words).view(np.uint8))


def output_beats(accs: Weights, geometry: Geometry) -> list[int]:
    """Expected weights, integers ``(streams, G*d)``, as payloads of `payload_bits` bits.

    They saturate to the output's width. Stream by stream, `beats_out` beats each; lanes beyond a
    stream's last group are zero.

    Raises:
        LiftError: the shape is wrong.
    """
    weights = geometry.groups * geometry.code.group
    if accs.ndim != 2 or accs.shape[1] != weights:
        raise LiftError(
            f"expected weights have shape {accs.shape}; {geometry.groups} groups of "
            f"{geometry.code.name} need (streams, {weights})"
        )
    per_beat = geometry.lanes * geometry.code.group
    width = geometry.output.width
    limit = 1 << width - 1
    padded = np.zeros((len(accs), geometry.beats_out * per_beat), "<i2" if width <= 16 else "<i4")
    padded[:, :weights] = np.clip(accs, -limit, limit - 1) if width < ACC_WIDTH else accs
    octets = padded.reshape(-1, per_beat, 1).view(np.uint8)
    bits = np.unpackbits(octets, axis=2, bitorder="little")[:, :, :width]
    fields = bits.reshape(len(bits), per_beat * width)
    return _integers(np.packbits(fields, axis=1, bitorder="little"))


def lane_mask(beat: int, geometry: Geometry) -> int:
    """The payload bits that mean something in output beat `beat` of a stream."""
    lanes = min(geometry.lanes, geometry.groups - beat * geometry.lanes)
    return (1 << lanes * geometry.code.group * geometry.output.width) - 1


def _integers(octets: npt.NDArray[np.uint8]) -> list[int]:
    """One integer for each row, least significant byte first."""
    return [int.from_bytes(row.tobytes(), "little") for row in octets]
