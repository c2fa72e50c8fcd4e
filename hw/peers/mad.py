"""QTIP's 1MAD: a weight of the sum of four bytes (arXiv 2406.11235, section 3.1.1, algorithm 1).

The window x becomes ``34038481 x + 76625530`` modulo 2**32; its bytes' sum is about Gaussian.
"""

from amaranth.hdl import C, Cat, Module, Value

from hw.peers.lanes import Integers, LaneDecoder, Pipeline

FACTOR, ADDEND = 34038481, 76625530
_CENTRE = 510

# the addend, dealt out: bits 0 to 3 and 4 to 12 are subtracted, below shifted terms
_SUBTRACTED = -ADDEND & 0x1FFF
_ADDED = (ADDEND + _SUBTRACTED) >> 13


class Mad(LaneDecoder):
    """The sum of the bytes less 510, which is within -483..469.

    The constant is ``2**25 + 2**19 + 1 - 16 * (512 * 5 - 45)``: three adders and subtractors make
    the last term, one joins two copies of x at its upper end, and one takes the difference: five,
    and the addend goes where shifts leave zeros, which costs the low bits of these adders and an
    increment of six bits. 510 is 512, an inverted bit, less two carries in. One adder per stage.
    yosys makes 555 LUT of the multiplication and addition left to it, or two DSPs and 47 LUT.
    """

    bits, weights, width, stages = 16, 1, 10, 6

    def lane(self, m: Module, pipe: Pipeline, window: Value) -> Value:
        five = pipe.held(0, "five", (window + Cat(C(0, 2), window))[:19])
        x = pipe.held(0, "x", window)
        raised = pipe.held(0, "raised", (window[1:7] + (_ADDED >> 13))[:6])

        forty_five = pipe.held(1, "forty_five", (five + Cat(C(0, 3), five))[:22])
        five_late = pipe.held(1, "five_late", five)
        low = pipe.held(1, "low", x[:13])
        # x + (x << 19) + (x << 25) + the addend's upper part, from bit 13 on
        twice = Cat(x[13:], C(0, 3), x[:13])
        high = pipe.held(1, "high", (twice + Cat(C(_ADDED & 0xFFF, 12), x[0], raised))[:19])

        lifted = Cat(C(_SUBTRACTED >> 4, 9), five_late)
        product = pipe.held(2, "product", (lifted - forty_five)[:28])
        kept = pipe.held(2, "kept", Cat(low, high))

        mixed = pipe.held(3, "mixed", (kept - Cat(C(_SUBTRACTED & 15, 4), product))[:32])
        pairs = [
            pipe.held(
                4, f"pair_{k}", _with_carry(mixed.word_select(k, 8), mixed.word_select(k + 1, 8))
            )
            for k in (0, 2)
        ]
        total = (pairs[0] + pairs[1])[:10]
        return pipe.held(5, "weight", Cat(total[:9], ~total[9]))

    @staticmethod
    def reference(windows: Integers) -> Integers:
        mixed = (windows * FACTOR + ADDEND) & 0xFFFFFFFF
        return (sum((mixed >> k & 255 for k in (8, 16, 24)), mixed & 255) - _CENTRE)[:, None]


def _with_carry(a: Value, b: Value) -> Value:
    """``a + b + 1``, a bit wider than either; a one below both is the carry in."""
    return (Cat(C(1, 1), a) + Cat(C(1, 1), b))[1:]
