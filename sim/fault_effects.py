"""What a flipped bit may change, said by the code alone: the bound that faults are held to."""

import numpy as np
import numpy.typing as npt

from algo.code import LiftCode
from algo.packing import Bits

Effects = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def window_places(code: LiftCode, groups: int) -> npt.NDArray[np.int64]:
    """Bits of the stream that each weight is decoded from: ``(G*d, L)``, wrapped round."""
    starts = np.arange(groups)[:, None] * code.lifted + np.array(code.starts)
    places: npt.NDArray[np.int64] = (starts.reshape(-1, 1) + np.arange(code.window)) % (
        groups * code.lifted
    )
    return places


def flip_effect(code: LiftCode, bits: Bits, at: int) -> Effects:
    """What flipping bit `at` adds to each weight of a stream, int64 ``(G*d,)``.

    A weight whose window does not hold the bit: 0. Otherwise minus twice every term that the bit's
    sign is a factor of: its own tap's, and those of the parities over it.

    Args:
        code: says windows and taps.
        bits: the stream as it was, uint8 ``(G*D,)``.
        at: number of the bit.
    """
    groups = len(bits) // code.lifted
    places = window_places(code, groups)
    effect = np.zeros(groups * code.group, np.int64)
    for weight, place in zip(*np.nonzero(places == at), strict=True):
        signs = [1 if bits[n] else -1 for n in places[weight]]
        taps = code.window_taps[weight % code.group].tolist()
        effect[weight] -= 2 * taps[place] * signs[place]
        for mask, tap in zip(code.parities, taps[code.window :], strict=True):
            if mask >> int(place) & 1:
                members = [signs[j] for j in range(code.window) if mask >> j & 1]
                effect[weight] -= 2 * tap * int(np.prod(members))
    return effect


def holders(code: LiftCode, groups: int, at: int) -> Flags:
    """The weights of a stream whose windows hold bit `at`, ``(G*d,)``."""
    found: Flags = (window_places(code, groups) == at).any(axis=1)
    return found


def in_flight(code: LiftCode, groups: int, streams: int, given: int, brought: int) -> Flags:
    """The weights of back-to-back streams that depend on what is inside a decoder.

    Args:
        code: says windows.
        groups: G, of every stream.
        streams: how many.
        given: weights that have left the decoder, which nothing changes any more.
        brought: bits, counted over all streams, that it may hold a part of.

    Returns:
        Flags ``(streams, G*d)``: not given yet, and of some bit before `brought`.
    """
    first = window_places(code, groups).min(axis=1)
    offsets = np.arange(streams)[:, None] * groups * code.lifted
    later = np.arange(streams * groups * code.group).reshape(streams, -1) >= given
    flags: Flags = later & (first + offsets < brought)
    return flags
