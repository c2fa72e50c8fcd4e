"""Harness: the gearbox is a queue of bits."""

from collections.abc import Mapping

from amaranth.hdl import Assert, C, Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.formal_stream import assert_stable, count_steps
from hw.gearbox import Gearbox
from hw.geometry import Geometry


class FormalGearbox(wiring.Component):  # type: ignore[misc]
    """A gearbox in an environment that does anything, and what it owes.

    The harness counts bits: a stream's last beat brings `last_beat_bits`, its last chunk takes
    `last_chunk_bits`, every other the whole width. A chunk is offered exactly when its bits have
    been taken. One bit, chosen by ``mark`` and ``at`` at any time, is followed: when the bits
    before it are given, it comes out in its place with its own value. Bits beyond a stream's last
    chunk are zero; offers are stable; it never blocks itself.

    The ports ``fill``, ``held``, ``beats_left`` and ``chunks_left`` read the gearbox's registers
    (`probes`); the harness must find in them what it counted itself, which closes the induction.

    Args:
        geometry: of the gearbox.
        part: what is examined.
    """

    def __init__(self, geometry: Geometry, part: type[Gearbox] = Gearbox) -> None:
        self.geometry = geometry
        self.dut = part(geometry)
        beat, chunk = geometry.beat_bits, geometry.chunk_bits
        # as the registers are: the probes fail where the gearbox has others
        self.unit = geometry.unit_bits
        self.capacity = 2 * chunk - self.unit + beat
        super().__init__(
            {
                "i_valid": In(1),
                "i_payload": In(unsigned(beat)),
                "o_ready": In(1),
                "mark": In(1),
                "at": In(range(beat)),
                "fill": In(range(self.capacity // self.unit + 1)),
                "held": In(self.capacity),
                "beats_left": In(range(geometry.beats_in)),
                "chunks_left": In(range(geometry.beats_out)),
            }
        )

    @property
    def probes(self) -> Mapping[str, str]:
        """Registers of the gearbox by the port that reads them; counters of one step are none."""
        wanted = {"fill": 2, "held": 2, "beats_left": self.geometry.beats_in}
        wanted["chunks_left"] = self.geometry.beats_out
        return {name: f"dut.{name}" for name, states in wanted.items() if states > 1}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        geometry = self.geometry
        m.d.comb += [
            dut.i.valid.eq(self.i_valid),
            dut.i.payload.eq(self.i_payload),
            dut.o.ready.eq(self.o_ready),
        ]
        taken, given = self.i_valid & dut.i.ready, dut.o.valid & self.o_ready
        beat = count_steps(m, geometry.beats_in, taken, "beat")
        chunk = count_steps(m, geometry.beats_out, given, "chunk")
        brought = Mux(
            beat == geometry.beats_in - 1, C(geometry.last_beat_bits), C(geometry.beat_bits)
        )
        leaving = Mux(
            chunk == geometry.beats_out - 1, C(geometry.last_chunk_bits), C(geometry.chunk_bits)
        )

        count = Signal(range(self.capacity + 1))  # bits taken and not given yet
        followed = Signal()
        value = Signal()
        before = Signal(range(self.capacity + 1))  # of those, the ones ahead of the followed
        gone = Mux(given, leaving, 0)
        m.d.sync += count.eq(count + Mux(taken, brought, 0) - gone)
        with m.If(taken & self.mark & ~followed & (self.at < brought)):
            m.d.sync += [
                followed.eq(1),
                value.eq(self.i_payload.bit_select(self.at, 1)),
                before.eq(count + self.at - gone),
            ]
        with m.Elif(given & followed):
            m.d.sync += [followed.eq(before >= leaving), before.eq(before - leaving)]

        m.d.comb += [
            Assert(dut.o.valid == (count >= leaving)),
            Assert(dut.i.ready | dut.o.valid),
            Assert(count <= self.capacity),
        ]
        with m.If(dut.o.valid):
            m.d.comb += Assert(dut.o.payload >> leaving == 0)
        with m.If(dut.o.valid & followed & (before < leaving)):
            m.d.comb += Assert(dut.o.payload.bit_select(before, 1) == value)
        assert_stable(m, dut.o.valid, self.o_ready, dut.o.payload)
        # what ties the count to the registers
        m.d.comb += [
            Assert(count == self.fill * self.unit),
            Assert(self.held >> count == 0),
        ]
        with m.If(followed):
            m.d.comb += [
                Assert(before < count),
                Assert(self.held.bit_select(before, 1) == value),
            ]
        for name, index, states in (
            ("beats_left", beat, geometry.beats_in),
            ("chunks_left", chunk, geometry.beats_out),
        ):
            if name in self.probes:
                m.d.comb += Assert(getattr(self, name) + index == states - 1)
        return m
