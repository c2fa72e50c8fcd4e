"""QTIP's 3INST: a weight of the sum of two halves (arXiv 2406.11235, section 3.1.1, algorithm 2).

The window x becomes ``89226354 x + 64248484`` modulo 2**32; sign, lower two exponent bits and
mantissa of two fp16 numbers are taken from it, under an XOR with those of 0.922, and summed.
"""

import numpy as np
from amaranth.hdl import C, Cat, Module, Mux, Value

from hw.peers.lanes import Integers, LaneDecoder, Pipeline

FACTOR, ADDEND = 89226354, 64248484
MASK, FLIPS = 0x8FFF8FFF, 0x3B603B60
UNIT = 2.0**-13  # the last place of the smaller numbers that can occur

# both constants are even, so bit 0 of the result is zero and what follows counts from bit 1
# half the addend as 2**14 * (129 * 5 + 12 + 4 * 65 * 5 + 3) - 65 * 5 + 11927, modulo 2**31: each
# of the constants fits below the shifted term of one addition
_DEALT = (5, 12, 3, 11927)
_LAST = 11  # bits of an fp16 significand


class ThreeInstExact(LaneDecoder):
    """The two numbers' exact sum in units of 2**-13, before any rounding.

    Half the constant is ``(389 * 7 << 14) - 65 * 7`` modulo 2**31: five adders and subtractors, of
    which only the last is 31 bits wide; the addend goes where shifts leave zeros. Exponents are two
    bits, so that the numbers are integers below 2**14: a significand shifted by up to three, no
    infinity, no subnormal, no packing. One of them is negated before the shift, the other by its
    complement and the sum's carry in. yosys makes 645 LUT of the multiplication and addition left
    to it, or two DSPs and 45 LUT.
    """

    bits, weights, width, stages = 16, 1, 16, 7
    _SUMMED = 6

    def lane(self, m: Module, pipe: Pipeline, window: Value) -> Value:
        return pipe.held(self._SUMMED, "weight", self._sum(pipe, window))

    def _sum(self, pipe: Pipeline, window: Value) -> Value:
        """16 bits of the sum, not registered, in stage `_SUMMED`."""
        # 7, 65 * 7, 129 * 7 and 389 * 7 times x, and what `_DEALT` puts below the shifts
        seven = pipe.held(0, "seven", (Cat(C(_DEALT[0], 3), window) - window)[:20])
        many = pipe.held(1, "many", (seven + Cat(C(0, 6), seven))[:26])
        more = pipe.held(1, "more", (seven[:17] + Cat(C(_DEALT[1], 7), seven[:10]))[:17])
        upper = pipe.held(2, "upper", (more + Cat(C(_DEALT[2], 2), many[:15]))[:17])
        many_late = pipe.held(2, "many_late", many)
        lifted = Cat(C(_DEALT[3], 14), upper)
        mixed = pipe.held(3, "mixed", Cat(C(0, 1), (lifted - many_late)[:31]))
        flipped = mixed ^ FLIPS
        first, second = flipped[16:], flipped[:16]
        # bit 0 of the second is zero: it is negated without it
        magnitude = Cat(second[1:10], C(1, 1))
        negative = second[15]
        bits = (magnitude ^ negative.replicate(10)) + negative
        negated = pipe.held(4, "negated", Cat(bits[:10], negative).as_signed())
        exponent = pipe.held(4, "exponent", second[10:12])
        sign = pipe.held(4, "sign", first[15])
        once = pipe.held(4, "once", _shift(Cat(first[:10], C(1, 1)), first[10], 12))
        far = pipe.held(4, "far", first[11])

        shifted = _shift(once, Cat(C(0, 1), far), 14) ^ sign.replicate(14)
        first_late = pipe.held(5, "first", shifted)
        sign_late = pipe.held(5, "first_sign", sign)
        grown = pipe.held(5, "second", _shift(negated, exponent, 14))
        first_addend = Cat(sign_late, first_late, sign_late.replicate(2))
        second_addend = Cat(sign_late, C(0, 1), grown, grown[-1])
        return (first_addend + second_addend)[1:17]

    @staticmethod
    def reference(windows: Integers) -> Integers:
        first, second = _halves(windows)
        return _in_units(first.astype(np.float64) + second)


class ThreeInst(ThreeInstExact):
    """As `ThreeInstExact`, rounded to what an fp16 addition gives, still in units of 2**-13.

    A sum of k bits more than 11 loses its last k, by rounding to nearest, ties to even; it need
    not be normalised. Two stages more.
    """

    stages = 9

    def lane(self, m: Module, pipe: Pipeline, window: Value) -> Value:
        total = pipe.held(self._SUMMED, "sum", self._sum(pipe, window))
        sizes = total[_LAST:15] ^ total[15].replicate(15 - _LAST)
        surplus = Cat(sizes[k:].any() for k in range(4))  # more than k bits too many
        # half a last place, less one unit unless the last place kept is odd
        odd = Mux(
            surplus[3],
            total[4],
            Mux(surplus[2], total[3], Mux(surplus[1], total[2], total[1] & surplus[0])),
        )
        half = Mux(surplus[3], 7, Mux(surplus[2], 3, surplus[1]))
        addend = pipe.held(self._SUMMED + 1, "addend", half[:3])
        late = pipe.held(self._SUMMED + 1, "late", total)
        carry = pipe.held(self._SUMMED + 1, "carry", odd)
        cleared = pipe.held(self._SUMMED + 1, "cleared", surplus)
        rounded = (Cat(C(1, 1), late) + Cat(carry, addend))[1:17]
        return pipe.held(self._SUMMED + 2, "weight", Cat(rounded[:4] & ~cleared, rounded[4:]))

    @staticmethod
    def reference(windows: Integers) -> Integers:
        first, second = _halves(windows)
        return _in_units(first + second)


def _shift(value: Value, places: Value, width: int) -> Value:
    """`value` shifted left by up to three, in `width` bits."""
    return (value << places)[:width]


def _halves(windows: Integers) -> tuple[np.ndarray, np.ndarray]:
    """The two float16 numbers of every window."""
    mixed = ((windows * FACTOR + ADDEND) & MASK) ^ FLIPS
    parts = (mixed >> 16, mixed & 0xFFFF)
    first, second = (part.astype(np.uint16).view(np.float16) for part in parts)
    return first, second


def _in_units(values: np.ndarray) -> Integers:
    scaled = values.astype(np.float64) / UNIT
    return scaled.astype(np.int64)[:, None]
