"""Packed words as input beats, expected weights as output beats; plain integers."""

import numpy as np
import numpy.typing as npt

from algo.decode import Accs
from algo.errors import LiftError
from algo.packing import Words
from hw.geometry import ACC_WIDTH, Geometry


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


def output_beats(accs: Accs, geometry: Geometry) -> list[int]:
    """Expected weights, int16 ``(streams, G*d)``, as payloads of `payload_bits` bits.

    Stream by stream, `beats_out` beats each; lanes beyond a stream's last group are zero.

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
    padded = np.zeros((len(accs), geometry.beats_out * per_beat), "<i2")
    padded[:, :weights] = accs
    octets = padded.reshape(-1, per_beat, 1).view(np.uint8)
    bits = np.unpackbits(octets, axis=2, bitorder="little")[:, :, :ACC_WIDTH]
    fields = bits.reshape(len(bits), per_beat * ACC_WIDTH)
    return _integers(np.packbits(fields, axis=1, bitorder="little"))


def lane_mask(beat: int, geometry: Geometry) -> int:
    """The payload bits that mean something in output beat `beat` of a stream."""
    lanes = min(geometry.lanes, geometry.groups - beat * geometry.lanes)
    return (1 << lanes * geometry.code.group * ACC_WIDTH) - 1


def _integers(octets: npt.NDArray[np.uint8]) -> list[int]:
    """One integer for each row, least significant byte first."""
    return [int.from_bytes(row.tobytes(), "little") for row in octets]
