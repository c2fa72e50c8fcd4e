"""Sums of the one-bit product in, projected sums out, by additions and shifts: no multiplier."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.engine_geometry import PROJECT_STAGES, EngineGeometry


class Project(wiring.Component):  # type: ignore[misc]
    """Runs the code's program (`hw.engine_program`) for every row of the layer, one operation per
    cycle: reads an operand from the memory of sums and adds it to the accumulator.

    Windows that reach past the stream's end wrap round by their addresses.

    Latency: an operation's effect is there 6 edges after it was issued (address, wrapped address,
    memory, a register behind it, operand, accumulator). The next weight position begins when the
    sum of the last one was taken. Throughput: `project_cycles` per vector, output taken at once.

    Ports:
        complete: In, high for one cycle when a vector's sums can be read from the next one on.
        row: Out, which sum to read: 0 for X, n + 1 for row n.
        data: In, the sum, one edge later.
        release: Out, high for one cycle when they are no longer needed.
        o: stream Out, signed, `result_width` bits: the projected sums, row 0 first. ``valid`` and
            the payload are registers.
    """

    def __init__(self, geometry: EngineGeometry) -> None:
        self.geometry = geometry
        super().__init__(
            {
                "complete": In(1),
                "row": Out(range(geometry.bit_rows + 1)),
                "data": In(geometry.sum_width),
                "release": Out(1),
                "o": Out(stream.Signature(unsigned(geometry.result_width))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lifted, rows = self.geometry.code.lifted, self.geometry.bit_rows
        waiting = Signal(range(3))  # complete vectors that are not released
        busy = Signal()
        unfinished = Signal()  # a row was begun whose sum is not taken
        base = Signal(range(rows + 1), init=1)
        go, closes = Signal(), Signal()
        op, fetched = self._program(m, go, closes)
        m.d.comb += [
            go.eq(busy & fetched & ~(op.first & unfinished)),
            closes.eq(op.final & (base == rows - lifted + 1)),
        ]
        with m.If(go & op.first):
            m.d.sync += unfinished.eq(1)
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += unfinished.eq(0)
        with m.If(go & closes):
            m.d.sync += [busy.eq(0), base.eq(1)]
        with m.Elif(go & op.ends_group):
            m.d.sync += base.eq(base + lifted)
        with m.If(~busy & ~unfinished & (waiting != 0)):
            m.d.sync += busy.eq(1)
        m.d.sync += waiting.eq(waiting + self.complete - self.release)

        place = Signal(range(rows + lifted + self.geometry.code.overlap + 1), reset_less=True)
        m.d.sync += place.eq(base + op.offset)
        with m.If(op.is_total):
            m.d.sync += place.eq(0)
        m.d.sync += self.row.eq(Mux(place > rows, place - rows, place))

        # the operand goes through address, wrapped address, memory and a register before its own
        def late(value: Value, name: str, reset_less: bool = True) -> Value:
            held = Signal(PROJECT_STAGES - 1, name=name, reset_less=reset_less)
            m.d.sync += held.eq(Cat(value, held))
            return held

        due = late(go, "due", False)[-1]
        negative = late(op.negative, "negative")
        shift, first = late(op.shift, "shift")[-1], late(op.first, "first")[-1]
        ends_row = late(op.last, "ends_row")[-1]
        ends_vector = late(closes, "ends_vector")[-1]

        acc = self._accumulate(m, due, negative, shift, first)
        done, released = Signal(), Signal()
        with m.If(due & ends_row):
            m.d.sync += done.eq(1)
        with m.Elif(self.o.ready):
            m.d.sync += done.eq(0)
        m.d.sync += released.eq(due & ends_vector)
        m.d.comb += [
            self.release.eq(released),
            self.o.valid.eq(done),
            self.o.payload.eq(acc),
        ]
        return m

    def _accumulate(
        self, m: Module, due: Value, negative: Value, shift: Value, first: Value
    ) -> Signal:
        """The accumulator, and the register of the operand between it and the memory."""
        sums = Signal(len(self.data), reset_less=True)
        m.d.sync += sums.eq(self.data)
        operand = Signal(len(sums), reset_less=True)
        m.d.sync += operand.eq(sums ^ negative[-2].replicate(len(sums)))
        width = self.geometry.result_width
        acc = Signal(width, reset_less=True)
        wide = Cat(operand, operand[-1].replicate(max(width - len(sums), 0)))[:width]
        so_far = Signal(width)
        m.d.comb += so_far.eq(Mux(first, 0, Mux(shift, acc << 1, acc)))
        # one bit below: its carry is the one that a negative number needs
        added = Signal(width + 1)
        m.d.comb += added.eq(Cat(negative[-1], so_far) + Cat(negative[-1], wide))
        with m.If(due):
            m.d.sync += acc.eq(added[1:])
        return acc

    def _program(self, m: Module, go: Value, closes: Value) -> tuple[Any, Signal]:
        """The operation that is next, read from a memory ahead, and whether it is there."""
        code, positions = self.geometry.code, self.geometry.program
        layout = data.StructLayout(
            {
                "offset": (code.lifted + code.overlap - 1).bit_length(),
                "is_total": 1,
                "negative": 1,
                "shift": 1,
                "first": 1,
                "last": 1,
                "ends_group": 1,
                "final": 1,  # the layer's last row ends here, if the group is its last
            }
        )
        last_position = (self.geometry.rows - 1) % code.group
        words = [
            layout.const(
                {
                    "offset": op.operand or 0,
                    "is_total": op.operand is None,
                    "negative": op.negative,
                    "shift": op.shift,
                    "first": op.first,
                    "last": op.last,
                    "ends_group": op.last and position == code.group - 1,
                    "final": op.last and position == last_position,
                }
            ).as_bits()
            for position, ops in enumerate(positions)
            for op in ops
        ]
        # flat words: a memory of structures exports a port for every field
        memory = Memory(shape=unsigned(layout.size), depth=len(words), init=words)
        m.submodules.program = memory
        read = memory.read_port()
        # block RAM is slow: what is decided on is a register behind it
        held = Signal(layout.size, reset_less=True)
        op = data.View(layout, held)
        at = Signal(range(len(words)))
        read_one, fetched = Signal(), Signal()
        m.d.comb += [read.addr.eq(at), read.en.eq(~read_one | ~fetched | go)]
        with m.If(read.en):
            m.d.sync += [at.eq(Mux(at == len(words) - 1, 0, at + 1)), read_one.eq(1)]
        with m.If(~fetched | go):
            m.d.sync += [held.eq(read.data), fetched.eq(read_one)]
        with m.If(go & closes):  # the next vector begins at the first operation
            m.d.sync += [at.eq(0), read_one.eq(0), fetched.eq(0)]
        return op, fetched
