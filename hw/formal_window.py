"""Harness: the window gives every chunk with the bits that follow it, round its own stream."""

from collections.abc import Mapping

from amaranth.hdl import Assert, C, Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from algo.errors import LiftError
from hw.formal_stream import assert_stable, count_steps
from hw.geometry import Geometry
from hw.window import Window


class FormalWindow(wiring.Component):  # type: ignore[misc]
    """A window in an environment that does anything, and what it owes.

    A window is offered exactly when the last chunk that it reaches has been taken, and there are as
    many as chunks. One bit, chosen by ``mark`` and ``at`` at any time, is followed for as long as
    its stream's windows are given: every one that reaches it, round the end too, has it in its
    place, and no other stream's has. Offers are stable; it never blocks itself.

    The ports ``queue``, ``level``, ``left`` and ``head`` read the window's registers (`probes`),
    which the induction needs tied to what the harness counted.

    Args:
        geometry: with overlap; without, a window is two wires.
        part: what is examined.

    Raises:
        LiftError: the code has no overlap.
    """

    def __init__(self, geometry: Geometry, part: type[Window] = Window) -> None:
        if not geometry.code.overlap:
            raise LiftError(f"{geometry.code.name} has no overlap: its window is wires")
        self.geometry = geometry
        self.dut = part(geometry)
        self.slots = geometry.lookahead + 2
        chunk, beats = geometry.chunk_bits, geometry.beats_out
        super().__init__(
            {
                "i_valid": In(1),
                "i_payload": In(unsigned(chunk)),
                "o_ready": In(1),
                "mark": In(1),
                "at": In(range(chunk)),
                "queue": In(self.slots * chunk),
                "level": In(range(self.slots + 1)),
                "left": In(range(beats + 1)),
                "head": In(geometry.code.overlap),
            }
        )

    @property
    def probes(self) -> Mapping[str, str]:
        """Registers of the window by the port that reads them."""
        return {name: f"dut.{name}" for name in ("queue", "level", "left", "head")}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        geometry, slots = self.geometry, self.slots
        chunk, beats, bits = geometry.chunk_bits, geometry.beats_out, geometry.stream_bits
        m.d.comb += [
            dut.i.valid.eq(self.i_valid),
            dut.i.payload.eq(self.i_payload),
            dut.o.ready.eq(self.o_ready),
        ]
        taken, given = self.i_valid & dut.i.ready, dut.o.valid & self.o_ready
        came = count_steps(m, beats, taken, "came")  # index of the next chunk in its stream
        went = count_steps(m, beats, given, "went")  # index of the next window in its stream
        count = Signal(range(slots + 1))
        m.d.sync += count.eq(count + taken - given)
        # chunks that must be there before a window is given, its own included
        reach = -(-geometry.window_bits // chunk)
        needed = Mux(went + reach < beats, reach, beats - went)

        # the followed bit's stream: windows to give before its first one, negative once they began
        followed = Signal()
        value = Signal()
        until = Signal(signed((beats + slots).bit_length() + 1))
        chunk_index = Signal(range(beats))
        place = Signal(range(chunk))
        size = Mux(came == beats - 1, C(geometry.last_chunk_bits), C(chunk))
        with m.If(taken & self.mark & ~followed & (self.at < size)):
            m.d.sync += [
                followed.eq(1),
                value.eq(self.i_payload.bit_select(self.at, 1)),
                until.eq(count - given - came),
                chunk_index.eq(came),
                place.eq(self.at),
            ]
        with m.Elif(given & followed):
            m.d.sync += [until.eq(until - 1), followed.eq(until != 1 - beats)]

        m.d.comb += [
            Assert(dut.o.valid == (count >= needed)),
            Assert(dut.i.ready | dut.o.valid),
        ]
        with m.If(dut.o.valid & followed & (until <= 0)):
            self._check_window(m, chunk_index, place, value, went)
            m.d.comb += Assert(went == (-until).as_unsigned())
        assert_stable(m, dut.o.valid, self.o_ready, dut.o.payload)

        # what ties the counts to the registers
        m.d.comb += [
            Assert(count == self.level),
            Assert(count <= slots),
            Assert(self.left + went == beats),
            Assert(self._whole_streams(went + count - came)),
            Assert((went == 0) | (went + count >= min(reach, beats))),
        ]
        slot = Signal(signed(len(until) + 1))
        position = Signal(range(bits))
        m.d.comb += [slot.eq(until + chunk_index), position.eq(chunk_index * chunk + place)]
        with m.If(followed):
            m.d.comb += [
                Assert(slot < count),
                Assert(until > -beats),
                Assert(self._whole_streams(went + until)),
                Assert(chunk_index < beats),
                Assert(place < Mux(chunk_index == beats - 1, geometry.last_chunk_bits, chunk)),
            ]
            with m.If(slot >= 0):
                found = self.queue.bit_select((slot * chunk + place).as_unsigned(), 1)
                m.d.comb += Assert(found == value)
            with m.If((until < 0) & (position < geometry.code.overlap)):
                m.d.comb += Assert(self.head.bit_select(position, 1) == value)
        return m

    def _whole_streams(self, windows: Value) -> Value:
        """Whether a number of windows, 0 or more, is that of some whole streams."""
        beats = self.geometry.beats_out
        return Cat(windows == n for n in range(0, beats + self.slots + 1, beats)).any()

    def _check_window(
        self, m: Module, chunk_index: Value, place: Value, value: Value, went: Value
    ) -> None:
        geometry = self.geometry
        bits, width = geometry.stream_bits, geometry.window_bits
        # from the window's first bit on to the followed one, round the end of the stream
        ahead = Signal(range(2 * bits))
        m.d.comb += ahead.eq(
            Mux(chunk_index >= went, chunk_index - went, 0) * geometry.chunk_bits
            + place
            + Mux(
                chunk_index >= went,
                0,
                bits - (went - chunk_index).as_unsigned() * geometry.chunk_bits,
            )
        )
        last = geometry.last_chunk_bits + geometry.code.overlap
        reach = Mux(went == geometry.beats_out - 1, C(last), C(width))
        # a window that is longer than its stream holds its first bits twice
        for again in range(0, max(last, width), bits):
            with m.If(ahead + again < reach):
                m.d.comb += Assert(self.dut.o.payload.bit_select(ahead + again, 1) == value)
