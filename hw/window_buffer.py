"""Words in, one weight's window after another out, for a code known only at run time."""

from amaranth.hdl import C, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from algo.packing import WORD
from hw.capacity import COUNTER_BITS, Capacity


class WindowBuffer(wiring.Component):  # type: ignore[misc]
    """Shifts a stream's bits past a window, each time by as many as the weight asks for.

    At the stream's end its first V bits, kept from the first word, go in once more; what is left
    after the last weight is dropped.

    Latency: a window can be transferred one edge after the word with its last bit was taken.
    Throughput: one window per cycle within a stream.

    Ports:
        i: stream In, 32 bits: a stream's words. ``ready`` depends on registers and ``hold``.
        o: stream Out, the window: as many low bits as the code's window has mean something.
            ``valid`` and the payload depend on registers and the numbers below only.
        stream_bits, weights, window, overlap: In, of the code and stream; constant while not idle.
        shift: In, bits from this weight's window to the next one's.
        hold: In, take no word while idle.
        idle: Out, no bit of a stream is inside.
    """

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        small = capacity.window.bit_length()
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(WORD))),
                "o": Out(stream.Signature(unsigned(capacity.window))),
                "stream_bits": In(COUNTER_BITS),
                "weights": In(COUNTER_BITS),
                "window": In(small),
                "overlap": In(small),
                "shift": In(capacity.lifted.bit_length()),
                "hold": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        full = self.capacity.full
        held = Signal(full - 1 + WORD)  # bits from `fill` on are zero
        fill = Signal(range(full + WORD))
        sent = Signal(COUNTER_BITS)
        given = Signal(COUNTER_BITS)
        wrapped = Signal()
        head = Signal(WORD, reset_less=True)

        left = Signal(COUNTER_BITS)
        low = fill < full
        taken = self.i.valid & self.i.ready
        wraps = low & ~self.idle & (left == 0) & ~wrapped
        leaves = self.o.valid & self.o.ready
        m.d.comb += [
            left.eq(self.stream_bits - sent),
            self.idle.eq(sent == 0),
            self.i.ready.eq(low & (left != 0) & ~(self.idle & self.hold)),
            self.o.valid.eq((fill >= self.window) & ~self.idle),
            self.o.payload.eq(held),
        ]
        gained = Signal(range(WORD + 1))
        incoming = Signal(WORD)
        with m.If(taken):
            m.d.comb += [
                gained.eq(Mux(left < WORD, left, WORD)),
                incoming.eq(_lowest(self.i.payload, gained)),
            ]
            m.d.sync += sent.eq(sent + gained)
            with m.If(self.idle):
                m.d.sync += head.eq(incoming)
        with m.If(wraps):
            m.d.comb += [gained.eq(self.overlap), incoming.eq(_lowest(head, self.overlap))]
            m.d.sync += wrapped.eq(1)

        merged = Signal(len(held))
        m.d.comb += merged.eq(held | (incoming << fill[: (full - 1).bit_length()]))
        m.d.sync += [held.eq(merged), fill.eq(fill + gained)]
        with m.If(leaves):
            m.d.sync += [
                held.eq(merged >> self.shift),
                fill.eq(fill + gained - self.shift),
                given.eq(given + 1),
            ]
            with m.If(given + 1 == self.weights):
                m.d.sync += [held.eq(0), fill.eq(0), given.eq(0), sent.eq(0), wrapped.eq(0)]
        return m


def _lowest(value: Value, count: Value) -> Value:
    """The `count` lowest bits of `value`, zeros above."""
    # a shifter, which is less logic than a comparison for every bit
    beyond = C((1 << len(value)) - 1, len(value)) << count
    return value & ~beyond[: len(value)]
