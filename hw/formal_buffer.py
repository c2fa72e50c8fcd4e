"""Harness: the loadable decoder's buffer gives every weight its window, whatever was loaded."""

from collections.abc import Mapping

from amaranth.hdl import Assert, Assume, C, Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from algo.packing import WORD
from hw.capacity import COUNTER_BITS, Capacity
from hw.window_buffer import WindowBuffer


class FormalBuffer(wiring.Component):  # type: ignore[misc]
    """A buffer in an environment that loads any valid code, and what it owes.

    The numbers of code and stream are free while the buffer is idle and stay until it is again, as
    the bus sees to. They and the shifts are those of some code: windows are no shorter than shifts,
    lie within the stream and V bits after its end, and the last of them is the one from which the
    shift leads to the stream's end (`Capacity.check`, `algo.code`).

    The harness adds up the shifts, so it knows where in its stream a window is. A window is offered
    exactly when its last bit is there. One bit of a stream, chosen by ``mark`` and ``at`` at any
    time, is followed until the stream ends: every window that reaches it, round the end too, has it
    in its place. Offers are stable in the bits of the window; it never blocks itself; no word is
    taken while idle and held back.

    Args:
        capacity: of the buffer.
        part: what is examined.
    """

    def __init__(self, capacity: Capacity, part: type[WindowBuffer] = WindowBuffer) -> None:
        self.capacity = capacity
        self.dut = part(capacity)
        small = capacity.window.bit_length()
        bits = capacity.full - 1 + WORD
        super().__init__(
            {
                **{name: In(1) for name in ("i_valid", "o_ready", "hold", "mark")},
                "i_payload": In(unsigned(WORD)),
                "at": In(range(WORD)),
                "stream_bits": In(COUNTER_BITS),
                "weights": In(COUNTER_BITS),
                "window": In(small),
                "overlap": In(small),
                "shift": In(capacity.lifted.bit_length()),
                "held": In(bits),
                "fill": In(range(capacity.full + WORD)),
                "sent": In(COUNTER_BITS),
                "given": In(COUNTER_BITS),
                "wrapped": In(1),
                "head": In(WORD),
            }
        )

    @property
    def probes(self) -> Mapping[str, str]:
        """Registers of the buffer by the port that reads them."""
        names = ("held", "fill", "sent", "given", "wrapped", "head")
        return {name: f"dut.{name}" for name in names}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        numbers = ("stream_bits", "weights", "window", "overlap")
        m.d.comb += [
            dut.i.valid.eq(self.i_valid),
            dut.i.payload.eq(self.i_payload),
            dut.o.ready.eq(self.o_ready),
            dut.hold.eq(self.hold),
            dut.shift.eq(self.shift),
            *(getattr(dut, name).eq(getattr(self, name)) for name in numbers),
        ]
        idle = self.sent == 0
        total, overlap, window = self.stream_bits, self.overlap, self.window
        taken, leaves = self.i_valid & dut.i.ready, dut.o.valid & self.o_ready
        start = Signal(COUNTER_BITS + 1)  # of the window, in its stream
        ends = self.given + 1 == self.weights
        for name in numbers:
            kept = Signal(len(getattr(self, name)), name=f"kept_{name}")
            m.d.sync += kept.eq(getattr(self, name))
            m.d.comb += Assume(idle | (kept == getattr(self, name)))
        m.d.comb += [
            Assume(window != 0),
            Assume(window <= self.capacity.window),
            Assume(overlap <= window),
            Assume(overlap < WORD),
            Assume((total == 0) | (window <= total)),
            Assume(self.shift <= self.capacity.lifted),
            Assume(self.shift <= window),
        ]
        with m.If(~idle):
            m.d.comb += [
                Assume(start + window <= total + overlap),
                Assume(start + self.shift <= total),
                Assume(ends == (start + self.shift == total)),
            ]
        with m.If(leaves):
            m.d.sync += start.eq(Mux(ends, 0, start + self.shift))

        # the followed bit: its place in the window (past it where a shift has dropped it), and in
        # the first word, which alone is given again
        followed, value, past, early = (
            Signal(name=name) for name in ("followed", "value", "past", "early")
        )
        ahead = Signal(len(self.fill) + 1)
        spot = Signal(range(WORD))
        over = leaves & ends
        with m.If(taken & self.mark & ~followed & (self.sent + self.at < total) & ~over):
            m.d.sync += [
                followed.eq(1),
                value.eq(self.i_payload.bit_select(self.at, 1)),
                past.eq(0),
                ahead.eq(self.fill + self.at - Mux(leaves, self.shift, 0)),
                early.eq(idle),
                spot.eq(self.at),
            ]
        with m.Elif(over):
            m.d.sync += followed.eq(0)
        with m.Elif(leaves):
            m.d.sync += [ahead.eq(ahead - self.shift), past.eq(past | (ahead < self.shift))]
        again = Signal(len(ahead))  # the place of its second coming
        m.d.comb += again.eq(self.fill - overlap + spot)
        comes_again = early & self.wrapped & (spot < overlap)

        inside = self.sent + Mux(self.wrapped, overlap, 0)  # bits of the stream since its first
        m.d.comb += [
            Assert(dut.idle == idle),
            Assert(dut.o.valid == (~idle & (start + window <= inside))),
            Assert(idle | dut.i.ready | dut.o.valid | ((self.sent == total) & ~self.wrapped)),
            Assert(~(idle & self.hold & dut.i.ready)),
            Assert(~(dut.i.ready & (total == 0))),
        ]
        with m.If(dut.o.valid & followed):
            for there, at in ((~past, ahead), (comes_again, again)):
                with m.If(there & (at < window)):
                    m.d.comb += Assert(dut.o.payload.bit_select(at, 1) == value)
        self._assert_stable(m)

        # what ties the counts to the registers
        m.d.comb += [
            Assert(self.fill + start == inside),
            Assert(self.held >> self.fill == 0),
            Assert(idle | ((self.sent >= WORD) & (self.sent <= total)) | (self.sent == total)),
            Assert(~self.wrapped | (~idle & (self.sent == total))),
            Assert(~idle | (start == 0)),
            Assert(~idle | ~followed),
        ]
        with m.If(followed):
            with m.If(early):
                m.d.comb += Assert(self.head.bit_select(spot, 1) == value)
            for there, at in ((~past, ahead), (comes_again, again)):
                with m.If(there):
                    m.d.comb += [
                        Assert(at < self.fill),
                        Assert(self.held.bit_select(at, 1) == value),
                    ]
        return m

    def _assert_stable(self, m: Module) -> None:
        """An offer stays, its window unchanged, until it is taken; a reset ends it."""
        dut = self.dut
        waiting = Signal()
        offered = Signal(len(dut.o.payload))
        beyond = C((1 << len(offered)) - 1, len(offered)) << self.window
        m.d.sync += [waiting.eq(dut.o.valid & ~self.o_ready), offered.eq(dut.o.payload)]
        with m.If(waiting):
            m.d.comb += [
                Assert(dut.o.valid),
                Assert(((dut.o.payload ^ offered) & ~beyond) == 0),
            ]
