"""Sums and multipliers in, scaled integers out, one bit of the multiplier per cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.engine_geometry import EngineGeometry
from hw.output import Output, Scale


class SerialRequantise(wiring.Component):  # type: ignore[misc]
    """``sum * multiplier / 2**shift``, rounded half away from zero, saturated, without a multiplier.

    The product grows from the multiplier's lowest bit, shifting right; its low bits take the
    multiplier's place. It begins with the half that rounds, one less for negative sums: the shift
    rounds down, and so a negative half goes away from zero too.

    Latency: M + 1 edges, for M bits of multiplier. Throughput: one sum per M + 1 cycles.

    Ports:
        i: stream In, signed, `result_width` bits. ``ready`` depends on ``scale.valid``, ``o.ready``.
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
        value = Signal(signed(self.geometry.result_width), reset_less=True)
        low = Signal(bits, reset_less=True)  # of the multiplier, then of the product
        high = Signal(signed(max(len(value), shift + 1)), reset_less=True)
        left = Signal(range(bits + 1))
        busy = Signal()
        free, taken = Signal(), Signal()
        m.d.comb += [
            self.o.valid.eq(busy & (left == 0)),
            free.eq(~busy | (self.o.valid & self.o.ready)),
            taken.eq(free & self.i.valid & self.scale.valid),
            self.i.ready.eq(free & self.scale.valid),
            self.scale.ready.eq(free & self.i.valid),
        ]
        total = Signal(signed(len(high) + 1))
        m.d.comb += total.eq(high + Mux(low[0], value, 0))
        with m.If(taken):
            half, negative = 1 << shift - 1, self.i.payload[-1]
            m.d.sync += [
                value.eq(self.i.payload),
                low.eq(self.scale.payload),
                high.eq(Mux(negative, half - 1, half)),
                left.eq(bits),
                busy.eq(1),
            ]
        with m.Elif(left != 0):
            m.d.sync += [high.eq(total >> 1), low.eq(Cat(low[1:], total[0])), left.eq(left - 1)]
        with m.Elif(self.o.ready):
            m.d.sync += busy.eq(0)

        whole = Cat(low, high).as_signed() >> shift
        limit = 1 << width - 1
        bounded = Mux(whole > limit - 1, limit - 1, Mux(whole < -limit, -limit, whole))
        m.d.comb += self.o.payload.eq(bounded)
        return m
