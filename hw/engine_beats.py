"""A layer's words and activations as input beats of an engine, its outputs as beats."""

from typing import Any

import numpy as np
import numpy.typing as npt

from algo.errors import LiftError
from algo.packing import Words, unpack_bits
from hw.engine_geometry import LARGEST, EngineGeometry

Integers = npt.NDArray[np.signedinteger[Any]]


def row_beats(words: Words, geometry: EngineGeometry) -> list[int]:
    """Packed columns, uint32 ``(columns, stream_words)``, as the sign bits of one vector.

    `row_beats` payloads of K bits: tile by tile, the rows of the one-bit matrix. With K a multiple
    of 32 they are the words of `algo.packing.transpose_words`, cut into tiles.

    Raises:
        LiftError: the words do not fit, or padding bits are set.
    """
    if len(words) != geometry.columns:
        raise LiftError(f"{len(words)} streams for a layer of {geometry.columns} columns")
    bits = unpack_bits(words, geometry.bit_rows)
    padded = np.zeros((geometry.tiles * geometry.lanes, geometry.bit_rows), np.uint8)
    padded[: len(bits)] = bits
    tiles = padded.reshape(geometry.tiles, geometry.lanes, -1).transpose(0, 2, 1)
    octets = np.packbits(tiles.reshape(-1, geometry.lanes), axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in octets]


def activation_beats(activations: Integers, geometry: EngineGeometry) -> list[int]:
    """One vector of activations, integers ``(columns,)``, as `activation_beats` payloads.

    Raises:
        LiftError: the shape is wrong, or an activation is outside -127..127.
    """
    if activations.shape != (geometry.columns,):
        raise LiftError(
            f"activations have shape {activations.shape}; the layer needs ({geometry.columns},)"
        )
    wide = activations.astype(np.int64)
    if (np.abs(wide) > LARGEST).any():
        worst = int(wide[np.abs(wide).argmax()])
        raise LiftError(f"activation {worst} is outside -{LARGEST}..{LARGEST}, the int8 digits")
    padded = np.zeros(geometry.tiles * geometry.lanes, np.int8)
    padded[: geometry.columns] = wide
    octets = padded.view(np.uint8).reshape(-1, geometry.activation_bits // 8)
    return [int.from_bytes(row.tobytes(), "little") for row in octets]


def result_beats(results: Integers, geometry: EngineGeometry) -> list[int]:
    """Outputs, integers of any shape, as payloads of `payload_bits`."""
    mask = (1 << geometry.payload_bits) - 1
    return [int(result) & mask for result in results.ravel()]
