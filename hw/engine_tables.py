"""Signed sums of four activations each, written once per tile and looked up by sign bits."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.engine_geometry import ENTRIES, LARGEST, TABLE_INPUTS, EngineGeometry

LEAF_BOUND = TABLE_INPUTS * LARGEST
LEAF_BITS = LEAF_BOUND.bit_length() + 1


class SignTables(wiring.Component):  # type: ignore[misc]
    """K/4 tables of 16 entries: entry x is the sum of those of its four activations whose bit of x
    is set. B builders write B tables at a time, an entry per cycle in the order of the Gray code,
    so that each entry is the last one plus or minus one activation: one adder per builder.

    Timing: an activation beat is written in 16 cycles; a beat ahead is taken at any time. An entry
    can be read at the second edge after the one of its step.

    Ports:
        act: stream In, payload of `activation_bits`: activation n of the beat in bits [8n, 8n + 8).
            ``ready`` depends on registers and ``hold``.
        hold: In, write nothing.
        built: Out, this cycle is the last step of a tile's last beat.
        bits: In, K sign bits.
        sums: Out, that of table t in bits [10t, 10t + 10), signed; combinational from ``bits``.
    """

    def __init__(self, geometry: EngineGeometry) -> None:
        self.geometry = geometry
        super().__init__(
            {
                "act": In(stream.Signature(unsigned(geometry.activation_bits))),
                "hold": In(1),
                "built": Out(1),
                "bits": In(geometry.lanes),
                "sums": Out(LEAF_BITS * geometry.tables),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beats, builders = self.geometry.build_beats, self.geometry.builders
        held = Signal(self.geometry.activation_bits, reset_less=True)
        loaded, step = Signal(), Signal(range(ENTRIES))
        place = Signal(beats, init=1)  # one-hot: the beat of the tile
        writing = Signal()
        closes = step == ENTRIES - 1
        m.d.comb += [
            writing.eq(loaded & ~self.hold),
            self.act.ready.eq(~loaded | (writing & closes)),
            self.built.eq(writing & closes & place[-1]),
        ]
        with m.If(self.act.ready):
            m.d.sync += [loaded.eq(self.act.valid), held.eq(self.act.payload)]
        with m.If(writing):
            m.d.sync += step.eq(step + 1)
            with m.If(closes):
                m.d.sync += place.eq(place.rotate_left(1))

        # the Gray code's step flips the bit of the step number's lowest one
        gray = Signal(TABLE_INPUTS)
        flipped = Signal(range(TABLE_INPUTS))
        m.d.comb += [
            gray.eq(step ^ step[1:]),
            flipped.eq(Mux(step[0], 0, Mux(step[1], 1, Mux(step[2], 2, 3)))),
        ]
        cleared = Signal()
        m.d.comb += cleared.eq(~gray.bit_select(flipped, 1))
        address = Signal(TABLE_INPUTS, reset_less=True)
        enables = Signal(beats)
        m.d.sync += [address.eq(gray), enables.eq(Mux(writing, place, 0))]

        each = 8 * TABLE_INPUTS
        for builder in range(builders):
            value = self._build(
                m, held[builder * each : (builder + 1) * each], flipped, cleared, step, builder
            )
            for beat in range(beats):
                self._table(m, beat * builders + builder, address, value, enables[beat])
        return m

    def _build(
        self, m: Module, quad: Value, flipped: Value, cleared: Value, step: Value, builder: int
    ) -> Signal:
        """The register of one builder's running sum, which needs no enable: what is not written
        does not count, and nothing holds within a beat.
        """
        value = Signal(LEAF_BITS, name=f"value_{builder}", reset_less=True)
        change = Signal(8, name=f"change_{builder}")
        m.d.comb += change.eq(quad.word_select(flipped, 8) ^ cleared.replicate(8))
        wide = Cat(change, change[-1].replicate(LEAF_BITS - 8))
        total = Signal(LEAF_BITS + 1, name=f"total_{builder}")
        # one bit below: its carry is the one that a negative number needs
        m.d.comb += total.eq(Cat(cleared, value) + Cat(cleared, wide))
        with m.If(step == 0):
            m.d.sync += value.eq(0)
        with m.Else():
            m.d.sync += value.eq(total[1:])
        return value

    def _table(
        self, m: Module, number: int, address: Value, value: Value, enable: Value
    ) -> None:
        memory = Memory(shape=unsigned(LEAF_BITS), depth=ENTRIES, init=[])
        m.submodules[f"table_{number}"] = memory
        write, read = memory.write_port(), memory.read_port(domain="comb")
        at = number * TABLE_INPUTS
        m.d.comb += [
            write.addr.eq(address),
            write.data.eq(value),
            write.en.eq(enable),
            read.addr.eq(self.bits[at : at + TABLE_INPUTS]),
            self.sums[number * LEAF_BITS : (number + 1) * LEAF_BITS].eq(read.data),
        ]
