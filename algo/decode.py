"""The integer decoder: the oracle that hardware and kernels are compared with.

``acc[g*d + i] = sum_j taps[i, j] * b[(g*D + j) mod (G*D)]``, plus one term for every parity, in
plain integer arithmetic (contract, section 3 of the design).
"""

import numpy as np
import numpy.typing as npt

from algo.code import LiftCode
from algo.packing import Bits, Words, check_stream, unpack_bits

Accs = npt.NDArray[np.int16]


def decode_bits(bits: Bits, code: LiftCode) -> Accs:
    """uint8 0/1 of shape ``(streams, G*D)`` to int16 of shape ``(streams, G*d)``."""
    streams, n = bits.shape
    groups = n // code.lifted
    signs = (bits.astype(np.int16) * 2 - 1).reshape(streams, groups, code.lifted)
    # feature j of group g is bit (g*D + j) mod (G*D): bit j mod D of a group j//D further on
    lifted = [
        np.roll(signs, -(j // code.lifted), axis=1)[:, :, j % code.lifted]
        for j in range(code.lifted + code.overlap)
    ]
    out = np.zeros((streams, groups, code.group), np.int16)
    for i, start in enumerate(code.starts):
        features = lifted[start : start + code.window]
        for mask in code.parities:
            members = [features[j] for j in range(code.window) if mask >> j & 1]
            features = [*features, np.prod(members, axis=0, dtype=np.int16)]
        for tap, feature in zip(code.window_taps[i].tolist(), features, strict=True):
            if tap:
                out[:, :, i] += np.int16(tap) * feature
    return out.reshape(streams, groups * code.group)


def decode_words(words: Words, groups: int, code: LiftCode) -> Accs:
    """Packed streams, uint32 ``(streams, words)``, to int16 ``(streams, groups*d)``.

    Raises:
        LiftError: the shape is wrong for `groups`, padding bits are set, or the stream is shorter
            than a window.
    """
    check_stream(groups, code)
    return decode_bits(unpack_bits(words, groups * code.lifted), code)
