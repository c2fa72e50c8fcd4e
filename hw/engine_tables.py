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
    is clear. B builders write B tables at a time, an entry per cycle in the order of the Gray code,
    so that each entry is the last one plus or minus one activation: one adder per builder.

    Timing: an activation beat is written in 16 cycles; a beat ahead is taken at any time. An entry
    can be read at the fourth edge after the one of its step.

    Ports:
        act: stream In, payload of `activation_bits`: activation n of the beat in bits [8n, 8n + 8).
            ``ready`` depends on registers and ``hold``.
        hold: In, write nothing.
        built: Out, the cycle before was the last step of a tile's last beat.
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
        ]
        m.d.sync += self.built.eq(writing & closes & place[-1])
        with m.If(self.act.ready):
            m.d.sync += [loaded.eq(self.act.valid), held.eq(self.act.payload)]
        # the Gray code's step flips the bit of the step number's lowest one; kept beside the step,
        # so that little logic follows them
        flipped, cleared = Signal(range(TABLE_INPUTS)), Signal()
        following = Signal.like(step)
        m.d.comb += following.eq(step + 1)
        with m.If(writing):
            m.d.sync += [
                step.eq(following),
                flipped.eq(
                    Mux(following[0], 0, Mux(following[1], 1, Mux(following[2], 2, 3))),
                ),
                cleared.eq(_flip_clears(following)),
            ]
            with m.If(closes):
                m.d.sync += place.eq(place.rotate_left(1))

        # two ranks behind: the choice of two pairs, the choice between them, the sum
        starts, high_pair, minus = Signal(2), Signal(), Signal(2)
        gray, address = Signal(2 * TABLE_INPUTS), Signal(TABLE_INPUTS)
        due, enables = Signal(2 * beats), Signal(beats)
        m.d.sync += [
            starts.eq(Cat(step == 0, starts)),
            high_pair.eq(flipped[1]),
            minus.eq(Cat(cleared, minus)),
            gray.eq(Cat(~(step ^ step[1:]), gray)),
            due.eq(Cat(Mux(writing, place, 0), due)),
            address.eq(gray[TABLE_INPUTS:]),
            enables.eq(due[beats:]),
        ]
        each = 8 * TABLE_INPUTS
        for builder in range(builders):
            quad = held[builder * each : (builder + 1) * each]
            pairs = [Signal(8, name=f"pair_{builder}_{n}", reset_less=True) for n in range(2)]
            for n, pair in enumerate(pairs):
                two = quad[16 * n : 16 * n + 16]
                m.d.sync += pair.eq(
                    Mux(flipped[0], two[8:], two[:8]) ^ cleared.replicate(8),
                )
            change = Signal(8, name=f"change_{builder}", reset_less=True)
            m.d.sync += change.eq(Mux(high_pair, pairs[1], pairs[0]))
            value = _running(m, change, minus[1], starts[1], builder)
            for beat in range(beats):
                self._table(m, beat * builders + builder, address, value, enables[beat])
        return m

    def _table(self, m: Module, number: int, address: Value, value: Value, enable: Value) -> None:
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


def _flip_clears(step: Value) -> Value:
    """Whether the Gray code's bit that flips at `step` becomes 0: the one above its place is 1."""
    return Mux(step[0], step[1], Mux(step[1], step[2], Mux(step[2], step[3], 0)))


def _running(m: Module, change: Value, minus: Value, starts: Value, number: int) -> Signal:
    """The register of a builder's sum: it begins at 0 and changes by `change`, or one more."""
    value = Signal(LEAF_BITS, name=f"value_{number}", reset_less=True)
    total = Signal(LEAF_BITS + 1, name=f"total_{number}")
    wide = Cat(change, change[-1].replicate(LEAF_BITS - 8))
    # one bit below: its carry is the one that a negative number needs
    m.d.comb += total.eq(Cat(minus, value) + Cat(minus, wide))
    with m.If(starts):
        m.d.sync += value.eq(0)
    with m.Else():
        m.d.sync += value.eq(total[1:])
    return value
