"""Sums in, weights of another width out."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.geometry import Geometry
from hw.output import ACC_WIDTH
from hw.stages import stage_moves


class Resize(wiring.Component):  # type: ignore[misc]
    """Sign-extends every sum of a beat to more than 12 bits, or saturates it to fewer.

    Latency: none where sums are extended, one edge where they are saturated. Throughput: one beat
    per cycle.

    Ports:
        i: stream In, payload of `sums_bits`; ``ready`` depends on ``o.ready``.
        o: stream Out, payload of `payload_bits`: weight n in bits [w*n, w*n + w).
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(geometry.sums_bits))),
                "o": Out(stream.Signature(unsigned(geometry.payload_bits))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.geometry.output.width
        sums = sums_of(self.i.payload)
        if width >= ACC_WIDTH:
            m.d.comb += [
                self.o.payload.eq(Cat(Cat(s, s[-1].replicate(width - ACC_WIDTH)) for s in sums)),
                self.o.valid.eq(self.i.valid),
                self.i.ready.eq(self.o.ready),
            ]
            return m
        valids, (move,) = stage_moves(m, 1, self.i.valid, self.o.ready)
        held = Signal(self.geometry.payload_bits, reset_less=True)
        with m.If(move):
            m.d.sync += held.eq(Cat(_saturated(s, width) for s in sums))
        m.d.comb += [
            self.o.payload.eq(held),
            self.o.valid.eq(valids[0]),
            self.i.ready.eq(move),
        ]
        return m


def sums_of(payload: Value) -> list[Value]:
    """The signed sums of a beat."""
    return [payload[at : at + ACC_WIDTH].as_signed() for at in range(0, len(payload), ACC_WIDTH)]


def _saturated(total: Value, width: int) -> Value:
    """A sum, or the bound it is beyond, in fewer bits."""
    limit = 1 << width - 1
    high, low = total > limit - 1, total < -limit
    return Mux(high, limit - 1, Mux(low, -limit, total)).as_unsigned()[:width]
