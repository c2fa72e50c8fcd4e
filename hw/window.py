"""Chunks in, overlapping tail-biting windows out."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.geometry import Geometry


class Window(wiring.Component):  # type: ignore[misc]
    """Extends every chunk by the V bits that follow it in its stream, which wraps round.

    A queue of n + 2 chunks (n whole chunks of lookahead) feeds the window; a head register keeps
    the stream's first V bits for the beats whose windows reach past its end. Those beats are known
    beforehand, so each reads from fixed places. Without overlap it is two wires.

    In a stream's last beat, lanes beyond the last group carry unspecified bits.

    Latency: a window can be transferred one edge after the last chunk it needs was taken, which is
    the n-th after its own or the stream's last. Without overlap: none. Throughput: one window per
    cycle while input is valid, over the ends of streams too.

    Ports:
        i: stream In, payload of `chunk_bits`. ``ready`` depends on registers only (V > 0).
        o: stream Out, payload of `window_bits`: the chunk in the low bits, then the V bits that
            follow it. ``valid`` depends on registers only (V > 0).
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(geometry.chunk_bits))),
                "o": Out(stream.Signature(unsigned(geometry.window_bits))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if not self.geometry.code.overlap:
            m.d.comb += [
                self.o.payload.eq(self.i.payload),
                self.o.valid.eq(self.i.valid),
                self.i.ready.eq(self.o.ready),
            ]
            return m
        chunk, beats = self.geometry.chunk_bits, self.geometry.beats_out
        slots = self.geometry.lookahead + 2

        queue = Signal(slots * chunk)
        level = Signal(range(slots + 1))
        left = Signal(range(beats + 1), init=beats)  # output beats left in the oldest's stream
        taken = self.i.valid & self.i.ready
        given = self.o.valid & self.o.ready
        # one slot more than a window needs, so that ready need not look at the output
        m.d.comb += [
            self.i.ready.eq(level != slots),
            self.o.valid.eq((level >= slots - 1) | (level >= left)),
        ]

        merged = Signal(slots * chunk)
        m.d.comb += merged.eq(
            Cat(
                Mux(level == slot, self.i.payload, queue[slot * chunk : (slot + 1) * chunk])
                for slot in range(slots)
            )
        )
        m.d.sync += [queue.eq(merged), level.eq(level + taken - given)]
        with m.If(given):
            m.d.sync += [
                queue.eq(merged >> chunk),
                left.eq(Mux(left == 1, beats, left - 1)),
            ]
        self._select(m, queue, left, given)
        return m

    def _select(self, m: Module, queue: Value, left: Value, given: Value) -> None:
        """Drive the window from the queue, and from the head where the stream has ended."""
        overlap, width = self.geometry.code.overlap, self.geometry.window_bits
        beats = self.geometry.beats_out
        kept = Signal(overlap, name="head")
        with m.If(given & (left == beats)):
            m.d.sync += kept.eq(queue)
        m.d.comb += self.o.payload.eq(queue)
        for beats_left in range(1, beats + 1):
            rest = (beats_left - 1) * self.geometry.chunk_bits + self.geometry.last_chunk_bits
            if rest >= width:
                break
            # the first beat's head is still at the front of the queue
            head = queue[:overlap] if beats_left == beats else kept
            with m.If(left == beats_left):
                m.d.comb += self.o.payload.eq(Cat(queue[:rest], head, C(0, width)))
