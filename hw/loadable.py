"""A decoder whose code is written at run time: one silicon for every D/d up to a maximum."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from algo.packing import WORD
from hw.capacity import (
    LAST_ROW,
    MASKS,
    OVERLAP,
    PARITY_COLUMN,
    ROW,
    SHIFTS,
    STREAM_BITS,
    TAPS,
    WEIGHTS,
    WINDOW,
    Capacity,
)  # fmt: skip
from hw.output import ACC_WIDTH
from hw.stages import stage_moves
from hw.sums import Part, add_rank, part_signal
from hw.window_buffer import WindowBuffer

ADDRESS_BITS = 16
_TAP_BITS = 8


class LoadableDecoder(wiring.Component):  # type: ignore[misc]
    """Decodes streams of whatever code and length its registers hold, one weight per beat.

    A buffer gives every weight its window. Features (window bits, parities) and the weight's row of
    taps are registered, then every tap or its negative, then each level of adders.

    Throughput: one weight per cycle within a stream; the first word of a stream is taken when the
    last window of the stream before has left the buffer. `Capacity.cycles` predicts it.

    Reset at any time makes the next word the first of a stream; what was loaded stays. Until
    numbers are loaded no word is taken.

    Ports:
        i: stream In, 32 bits: the words of a stream. ``ready`` depends on registers and
            ``bus.valid``.
        o: stream Out, 12 bits: a stream's weights one after the other, signed. ``valid`` and the
            payload are registers.
        bus: stream In, 48 bits: writes the low 32 bits to the address in the high 16
            (`Capacity.writes` has them all). ``ready`` only between streams: none of the last
            one's weights is inside, no word of the next has been taken. A write that waits is
            carried out before another stream begins.
    """

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(WORD))),
                "o": Out(stream.Signature(unsigned(ACC_WIDTH))),
                "bus": In(stream.Signature(unsigned(ADDRESS_BITS + WORD))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        capacity = self.capacity
        m.submodules.buffer = buffer = WindowBuffer(capacity)
        wiring.connect(m, wiring.flipped(self.i), buffer.i)
        valids, moves = stage_moves(m, capacity.stages, buffer.o.valid, self.o.ready)
        issued = buffer.o.valid & moves[0]
        m.d.comb += [
            buffer.o.ready.eq(moves[0]),
            buffer.hold.eq(self.bus.valid),
            self.bus.ready.eq(buffer.idle & ~Cat(valids).any()),
            self.o.valid.eq(valids[-1]),
        ]

        for at, number in (
            (STREAM_BITS, buffer.stream_bits),
            (WEIGHTS, buffer.weights),
            (WINDOW, buffer.window),
            (OVERLAP, buffer.overlap),
        ):
            m.d.comb += number.eq(self._register(m, at, len(number), f"register_{at}"))
        row = Signal(range(max(capacity.group, 2)))
        last_row = self._register(m, LAST_ROW, len(row), "last_row")
        with m.If(issued):
            m.d.sync += row.eq(Mux(row == last_row, 0, row + 1))
        shifts = [
            self._register(m, SHIFTS + i, len(buffer.shift), f"shift_{i}")
            for i in range(capacity.group)
        ]
        m.d.comb += buffer.shift.eq(shifts[0])
        for i, shift in enumerate(shifts[1:], 1):
            with m.If(row == i):
                m.d.comb += buffer.shift.eq(shift)

        features = self._features(m, moves[0], buffer.o.payload)
        taps = self._taps(m, moves[0], row)
        total = self._sum(m, moves, features, taps)
        m.d.comb += self.o.payload.eq(total)
        return m

    def _written(self) -> tuple[Value, Value, Value]:
        """That a write takes place, its address and its value."""
        return (
            self.bus.valid & self.bus.ready,
            self.bus.payload[WORD:],
            self.bus.payload[:WORD],
        )

    def _register(self, m: Module, at: int, width: int, name: str) -> Signal:
        """One number of the bus, which reset leaves alone."""
        written, address, value = self._written()
        held = Signal(width, name=name, reset_less=True)
        with m.If(written & (address == at)):
            m.d.sync += held.eq(value)
        return held

    def _features(self, m: Module, move: Value, window: Value) -> Signal:
        """The registered window bits and parities, each 1 for the sign +1."""
        parities = []
        for p in range(self.capacity.parities):
            mask = self._register(m, MASKS + p, self.capacity.window, f"mask_{p}")
            # a product of an even number of signs is +1 where the XOR of their bits is 0
            parities.append((window & mask).xor() ^ ~mask.xor())
        features = Signal(self.capacity.features, reset_less=True)
        with m.If(move):
            m.d.sync += features.eq(Cat(window, *parities))
        return features

    def _taps(self, m: Module, move: Value, row: Value) -> list[Value]:
        """A row of the memory of taps, registered with its features."""
        count = self.capacity.features
        m.submodules.taps = memory = Memory(
            shape=unsigned(_TAP_BITS * count), depth=self.capacity.group, init=[]
        )
        written, address, value = self._written()
        write = memory.write_port(granularity=_TAP_BITS)
        columns = [
            *range(self.capacity.window),
            *(PARITY_COLUMN + p for p in range(self.capacity.parities)),
        ]
        places = range(TAPS, TAPS + ROW * self.capacity.group, ROW)
        here = written & (address >= places.start) & (address < places.stop)
        m.d.comb += [
            write.addr.eq(address[ROW.bit_length() - 1 :]),
            write.data.eq(value[:_TAP_BITS].replicate(count)),
            write.en.eq(
                Cat(here & (address[: ROW.bit_length() - 1] == column) for column in columns)
            ),
        ]
        read = memory.read_port()
        m.d.comb += [read.addr.eq(row), read.en.eq(move)]
        return [read.data.word_select(n, _TAP_BITS).as_signed() for n in range(count)]

    def _sum(self, m: Module, moves: list[Signal], features: Signal, taps: list[Value]) -> Value:
        """The sum of +-taps, registered at every level."""
        parts = []
        limit = 1 << _TAP_BITS - 1
        for n, tap in enumerate(taps):
            part = part_signal(-limit, limit, f"signed_{n}")
            with m.If(moves[1]):
                m.d.sync += part.eq(Mux(features[n], tap, -tap))
            parts.append(Part(part, -limit, limit))
        for move in moves[2:]:
            (parts,) = add_rank(m, move, [parts], 1)
        (total,) = parts
        # a valid code's sum needs no more bits than this
        return Cat(total.value, total.value[-1].replicate(ACC_WIDTH))[:ACC_WIDTH]
