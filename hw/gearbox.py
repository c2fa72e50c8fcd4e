"""Words in, chunks of P groups out."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.counting import last_of
from hw.geometry import Geometry


class Gearbox(wiring.Component):  # type: ignore[misc]
    """Re-cuts streams of 32-bit words into chunks of P*D bits.

    Every stream starts at a beat. Bits of its last beat beyond the stream (padding, spare words)
    are ignored; bits of its last chunk beyond the stream read as zero.

    Latency: a chunk whose last bit is in the beat taken at an edge can be transferred at the next
    edge. Throughput: one chunk per cycle while input is valid, over the ends of streams too.

    Ports:
        i: stream In, payload of `beat_bits`, first word in the low bits. ``ready`` depends on
            registers only.
        o: stream Out, payload of `chunk_bits`, first bit of the chunk in bit 0. ``valid`` depends
            on registers only.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(geometry.beat_bits))),
                "o": Out(stream.Signature(unsigned(geometry.chunk_bits))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        chunk, beat = self.geometry.chunk_bits, self.geometry.beat_bits
        unit = self.geometry.unit_bits
        accept_below = 2 * chunk
        capacity = accept_below - unit + beat

        fill = Signal(range(capacity // unit + 1))  # in units
        held = Signal(capacity)  # bits from `fill` on are zero, so that merging is an OR
        taken = self.i.valid & self.i.ready
        given = self.o.valid & self.o.ready

        last_in = last_of(m, self.geometry.beats_in, taken, "beats_left")
        last_out = last_of(m, self.geometry.beats_out, given, "chunks_left")
        gained = Mux(last_in, self.geometry.last_beat_bits // unit, beat // unit)
        leaving = Mux(last_out, self.geometry.last_chunk_bits // unit, chunk // unit)

        m.d.comb += [
            self.i.ready.eq(fill < accept_below // unit),
            self.o.valid.eq(fill >= leaving),
            self.o.payload.eq(
                held & Mux(last_out, _ones(self.geometry.last_chunk_bits), _ones(chunk))
            ),
        ]

        incoming = self.i.payload & Mux(
            taken, Mux(last_in, _ones(self.geometry.last_beat_bits), _ones(beat)), 0
        )
        shift_units = fill[: ((accept_below - unit) // unit).bit_length()]
        shift = Cat(C(0, unit.bit_length() - 1), shift_units)
        merged = Signal(capacity)
        m.d.comb += merged.eq(held | (incoming << shift))
        m.d.sync += [
            fill.eq(fill + Mux(taken, gained, 0) - Mux(given, leaving, 0)),
            held.eq(merged),
        ]
        with m.If(given):
            m.d.sync += held.eq(
                Mux(last_out, merged >> self.geometry.last_chunk_bits, merged >> chunk)
            )
        return m


def _ones(bits: int) -> Value:
    return C((1 << bits) - 1, bits)
