"""QuIP#'s E8P: eight weights of 16 bits (arXiv 2402.04396, section 4).

A table of 256 vectors of absolute values 1/2, 3/2, 5/2 holds all 227 such vectors with an even sum
for some choice of signs and a squared norm of at most 10, and 29 of norm 12, three of whose entries
are 1/2 and five 3/2. Seven signs are given, the eighth makes the sum even, and all eight weights
are moved by 1/4 or by -1/4.

What a decoder is free to choose is chosen for its sake: the order of the table, which 29 of the 56
vectors of norm 12 it holds, and the layout of the word. See `magnitudes`.
"""

import numpy as np
import numpy.typing as npt
from amaranth.hdl import C, Cat, Module, Mux, Value

from hw.peers.lanes import Integers, LaneDecoder, Pipeline

_DIMENSION = 8
_SPARED = (0, 1, 2)  # of the all-ones index: the three entries that stay 1/2


def magnitudes() -> npt.NDArray[np.int64]:
    """int64 ``(256, 8)``: 0, 1, 2 for 1/2, 3/2, 5/2, by index.

    Of an index below 128, bit j says whether entry j is 3/2; entry 7 is 1/2. Where that would make
    more than five of them, entry 7 is 3/2 as well, and of the others those become 1/2 that are on
    a line of the Fano plane, {j, j+1, j+3} mod 7, with the index's only zero; 127 has a line of its
    own. From 128, entries 0 to 5 are given in the same way, and where more than three of them would
    be 3/2, they and entry 6, 1/2 till then, change over; entry 7 is 3/2. From 192, bits 3 to 5 are
    the place of a 5/2, and bits 0 to 2 that of a 3/2, where they differ.
    """
    table = np.zeros((256, _DIMENSION), np.int64)
    for index in range(256):
        entry = table[index]
        ones = np.array([index >> j & 1 for j in range(7)])
        if index < 128:
            entry[:7] = ones
            if ones.sum() > 5:
                entry[7] = 1
                zero = _SPARED if ones.all() else [(int(ones.argmin()) + k) % 7 for k in (0, 1, 3)]
                entry[list(zero)] = 0
        elif index < 192:
            entry[:6], entry[7] = ones[:6], 1
            if ones[:6].sum() > 3:
                entry[:7] ^= 1
        else:
            entry[index & 7] = 1
            entry[index >> 3 & 7] = 2
    return table


class E8P(LaneDecoder):
    """Weights in quarters: odd integers from -11 to 11.

    The window holds the index in bits 0 to 7, the signs of weights 0 to 6 in bits 8 to 14, and
    the move in bit 15. Four stages: two count bits of the index, one makes magnitudes, one signs.
    A magnitude 0, 1, 2 under its sign is its one's complement, and with the move below it the
    weight itself, so nothing is added. The parity of the sum is that of the number of 3/2s.
    """

    bits, weights, width, stages = 16, 8, 5, 4

    def lane(self, m: Module, pipe: Pipeline, window: Value) -> Value:
        word = pipe.held(0, "word", window)
        unset = [_any_and_several(~part) for part in (window[:4], window[4:7])]
        few = [pipe.held(0, f"few_{k}", counts) for k, counts in enumerate(unset)]
        counted = [_odd_and_two(part) for part in (window[:3], window[3:6])]
        low, high = (pipe.held(0, f"count_{k}", counts) for k, counts in enumerate(counted))

        upper, place = word[:3], word[3:6]
        single = word[6] & word[7]  # one 5/2, and one 3/2 or none
        over_five = ~(few[0][1] | few[1][1] | (few[0][0] & few[1][0]))  # of bits 0 to 6
        over_three = (low[1] & high[1]) | ((low[1] | high[1]) & low[0] & high[0])  # of 0 to 5
        full = pipe.held(1, "full", over_five & ~word[7])
        most = pipe.held(1, "most", over_three & word[7] & ~word[6])
        given = [*word[:6], word[6] & ~word[7], word[7]]
        base = pipe.held(
            1, "base", Cat(Mux(single, upper == j, given[j]) for j in range(_DIMENSION))
        )
        large = pipe.held(1, "large", Cat(single & (place == j) for j in range(_DIMENSION)))
        same = pipe.held(1, "same", single & (upper == place))
        some_unset = few[0][0] | few[1][0]
        line = pipe.held(
            1,
            "line",
            Cat(
                word[(j - 1) % 7] & word[(j - 3) % 7] & (some_unset if j in _SPARED else C(1, 1))
                for j in range(7)
            ),
        )
        signs = pipe.held(1, "signs", word[8:])

        kept = [(base[j] & ~(full & ~line[j])) ^ most for j in range(7)]
        three = pipe.held(2, "three", Cat(*kept, base[7] | full))
        five = pipe.held(2, "five", large)
        odd = pipe.held(2, "odd", signs[:7].xor() ^ same)
        signed = pipe.held(2, "signed", signs)

        eighth = three.xor() ^ odd
        weights = [
            Cat(signed[7], (three[j] & ~five[j]) ^ sign, five[j] ^ sign, sign)
            for j, sign in enumerate([*signed[:7], eighth])
        ]
        return Cat(
            Cat(C(1, 1), pipe.held(3, f"weight_{j}", weight)) for j, weight in enumerate(weights)
        )

    @staticmethod
    def reference(windows: Integers) -> Integers:
        sizes = magnitudes()[windows & 255]
        negative = np.zeros((len(windows), _DIMENSION), np.int64)
        negative[:, :7] = windows[:, None] >> np.arange(8, 15) & 1
        negative[:, 7] = (negative.sum(axis=1) + (sizes == 1).sum(axis=1)) & 1
        halves = np.where(negative, -(2 * sizes + 1), 2 * sizes + 1)
        weights: Integers = 2 * halves + (2 * (windows[:, None] >> 15) - 1)
        return weights


def _any_and_several(bits: Value) -> Value:
    """Whether any bit is set, and whether two are."""
    pairs = [bits[j] & bits[k] for k in range(len(bits)) for j in range(k)]
    return Cat(bits.any(), Cat(pairs).any())


def _odd_and_two(bits: Value) -> Value:
    """The number of bits set of three, as two bits."""
    return Cat(bits.xor(), (bits[0] & bits[1]) | (bits[2] & (bits[0] | bits[1])))
