"""Uniform integers: INT2 and INT4, with their zero point fixed or given with each window."""

from typing import ClassVar

from amaranth.hdl import C, Cat, Module, Value

from hw.peers.lanes import Integers, LaneDecoder, Pipeline


class _Midpoint(LaneDecoder):
    """``2q - (2**b - 1)``: the grid that is symmetric about zero, best for a Gaussian.

    Its zero point lies in the middle, so that the subtraction is an inverted sign bit and a
    constant one below: wires, and the register at the end.
    """

    weights = stages = 1

    def lane(self, m: Module, pipe: Pipeline, window: Value) -> Value:
        held = pipe.held(0, "level", Cat(window[:-1], ~window[-1]))
        return Cat(C(1, 1), held)

    @classmethod
    def reference(cls, windows: Integers) -> Integers:
        return (2 * windows - ((1 << cls.bits) - 1))[:, None]


class Int2Midpoint(_Midpoint):
    """Two bits, weights -3, -1, 1, 3."""

    bits, width = 2, 3


class Int4Midpoint(_Midpoint):
    """Four bits, odd weights from -15 to 15."""

    bits, width = 4, 5


class _ZeroPoint(LaneDecoder):
    """``q - z``, as GPTQ and AWQ store weights: `code_bits` of q, above them as many of z.

    Whoever holds the parameters of a group of weights puts its zero point beside each code. One
    subtraction, registered.
    """

    code_bits: ClassVar[int]
    weights = stages = 1

    def lane(self, m: Module, pipe: Pipeline, window: Value) -> Value:
        code, zero = window[: self.code_bits], window[self.code_bits :]
        return pipe.held(0, "difference", code - zero)

    @classmethod
    def reference(cls, windows: Integers) -> Integers:
        mask = (1 << cls.code_bits) - 1
        return ((windows & mask) - (windows >> cls.code_bits))[:, None]


class Int2ZeroPoint(_ZeroPoint):
    """Two bits and a two-bit zero point."""

    code_bits, bits, width = 2, 4, 3


class Int4ZeroPoint(_ZeroPoint):
    """Four bits and a four-bit zero point."""

    code_bits, bits, width = 4, 8, 5
