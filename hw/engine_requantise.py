"""Sums and multipliers in, scaled integers out, one bit of the multiplier per cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.engine_geometry import EngineGeometry
from hw.output import Output, Scale


class SerialRequantise(wiring.Component):  # type: ignore[misc]
    """``sum * multiplier / 2**shift``, rounded half away from zero, saturated: bit by bit.

    The product grows from the multiplier's lowest bit, shifting right, a bit per step. What rounds
    it comes in as carries: 2**(shift - 1), one less for negative sums, since the shift rounds down
    and a negative half has to go away from zero too; that is a carry in step shift - 1, or one in
    every step before it.

    Latency: N + 1 edges, N the larger of the multiplier's bits and the shift. Throughput: one sum
    per N + 1 cycles.

    Ports:
        i: stream In, signed, `result_width` bits. ``ready`` depends on ``scale.valid`` and on
            ``o.ready``.
        scale: stream In, M bits, unsigned: the row's multiplier, taken with its sum.
        o: stream Out, signed, `payload_bits`. ``valid`` and the payload depend on registers only.

    Args:
        geometry: of the engine.
        output: its output.
        scale: the output's scale.
    """

    def __init__(self, geometry: EngineGeometry, output: Output, scale: Scale) -> None:
        self.geometry = geometry
        self.output = output
        self.scaling = scale
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(geometry.result_width))),
                "scale": In(stream.Signature(unsigned(scale.multiplier_bits))),
                "o": Out(stream.Signature(unsigned(output.width))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, shift, width = self.scaling.multiplier_bits, self.scaling.shift, self.output.width
        steps = self.geometry.requantise_steps
        value = Signal(signed(self.geometry.result_width), reset_less=True)
        # of the multiplier, then zeros; or of the product, where the shift leaves any
        low = Signal(bits, reset_less=True)
        high = Signal(signed(len(value)), reset_less=True)
        left = Signal(range(steps + 1))
        busy, carry = Signal(), Signal()
        free, taken = Signal(), Signal()
        m.d.comb += [
            self.o.valid.eq(busy & (left == 0)),
            free.eq(~busy | (self.o.valid & self.o.ready)),
            taken.eq(free & self.i.valid & self.scale.valid),
            self.i.ready.eq(free & self.scale.valid),
            self.scale.ready.eq(free & self.i.valid),
        ]
        rounding = steps - shift + 1  # what is left in the step of the half
        m.d.comb += carry.eq(Mux(value[-1], left > rounding, left == rounding))
        # one bit below: its carry is that one
        total = Signal(signed(len(high) + 2))
        addend = Cat(carry, Mux(low[0], value, 0)).as_signed()
        m.d.comb += total.eq(Cat(carry, high).as_signed() + addend)
        with m.If(taken):
            m.d.sync += [
                value.eq(self.i.payload),
                low.eq(self.scale.payload),
                high.eq(0),
                left.eq(steps),
                busy.eq(1),
            ]
        with m.Elif(left != 0):
            m.d.sync += [
                high.eq(total >> 2),
                low.eq(Cat(low[1:], total[1] if shift < bits else 0)),
                left.eq(left - 1),
            ]
        with m.Elif(self.o.ready):
            m.d.sync += busy.eq(0)

        whole = Cat(low, high).as_signed() >> bits - (steps - shift)
        limit = 1 << width - 1
        bounded = Mux(whole > limit - 1, limit - 1, Mux(whole < -limit, -limit, whole))
        m.d.comb += self.o.payload.eq(bounded)
        return m
