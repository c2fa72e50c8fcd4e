"""Activations and rows of sign bits in, the one-bit product in a memory: no multiplier."""

import itertools

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.counting import last_of
from hw.engine_geometry import EngineGeometry
from hw.engine_tables import LEAF_BITS, LEAF_BOUND, SignTables
from hw.sums import Part, add_rank, part_signal


class SignAccumulate(wiring.Component):  # type: ignore[misc]
    """Sums of the activations at a row's clear bits, for all G*D rows of the one-bit matrix.

    Columns go in tiles of K. A tile's tables are written from its activations; then its rows
    stream past, K sign bits per cycle: a lookup per four bits, a tree of adders registered at every
    level, and one accumulator whose sums lie in a memory. Before a tile's rows goes one of all
    zeros, which makes X, the sum of all activations: it needs no adders of its own. The memory has
    two banks, so that the next vector is summed while the last one is projected.

    Throughput: K sign bits (K*d/D weights) per cycle while rows stream; a tile takes `tile_cycles`.

    Ports:
        act: stream In, payload of `activation_bits` (`SignTables`): `activation_beats` per vector.
        i: stream In, K bits: bit l belongs to column tile*K + l. G*D beats per tile, row 0 first.
            ``ready`` depends on registers only.
        row: In, which sum to read: 0 for X, n + 1 for row n.
        data: Out, the sum of the vector that is complete, signed, one edge after ``row``.
        complete: Out, high for the cycle after which a vector's sums can be read.
        release: In, high for one cycle when they are no longer needed. Vectors are read in order.
    """

    def __init__(self, geometry: EngineGeometry) -> None:
        self.geometry = geometry
        super().__init__(
            {
                "act": In(stream.Signature(unsigned(geometry.activation_bits))),
                "i": In(stream.Signature(unsigned(geometry.lanes))),
                "row": In(range(geometry.bit_rows + 1)),
                "data": Out(geometry.sum_width),
                "complete": Out(1),
                "release": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self.geometry
        m.submodules.tables = tables = SignTables(geometry)
        wiring.connect(m, wiring.flipped(self.act), tables.act)

        # tiles: written, one row of zeros, the rows
        sweeping, zeros_due = Signal(), Signal()
        fresh = Signal(init=1)  # the next row of zeros begins a vector
        begun = Signal(range(3))  # vectors whose memory is in use
        zeros, taken = Signal(), Signal()
        ends_tile = last_of(m, geometry.bit_rows, taken, "rows_left")
        ends_vector = last_of(m, geometry.tiles, taken & ends_tile, "tiles_left")
        m.d.comb += [
            tables.hold.eq(sweeping | tables.built),
            zeros.eq(zeros_due & (~fresh | (begun != 2))),
            self.i.ready.eq(sweeping & ~zeros_due),
            taken.eq(self.i.valid & self.i.ready),
        ]
        with m.If(tables.built):
            m.d.sync += [sweeping.eq(1), zeros_due.eq(1)]
        with m.If(zeros):
            m.d.sync += zeros_due.eq(0)
        with m.If(taken & ends_tile):
            m.d.sync += [sweeping.eq(0), fresh.eq(ends_vector)]
        m.d.sync += begun.eq(begun + (zeros & fresh) - self.release)

        # what the rows' sums are added to; it stays while a tile is in the tree
        bank, first = Signal(init=1), Signal()
        with m.If(zeros):
            m.d.sync += [first.eq(fresh), bank.eq(bank ^ fresh)]

        bits = Signal(geometry.lanes, reset_less=True)
        m.d.sync += bits.eq(self.i.payload)
        with m.If(zeros_due):
            m.d.sync += bits.eq(0)
        m.d.comb += tables.bits.eq(bits)
        total = self._tree(m, tables.sums)

        stages = geometry.tree_levels + 4  # bits, tables, levels, the sum so far, sum
        valids, last = Signal(stages), Signal(stages)
        m.d.sync += [
            valids.eq(Cat(zeros | taken, valids)),
            last.eq(Cat(taken & ends_tile & ends_vector, last)),
        ]
        m.d.comb += self.complete.eq(last[-1])
        self._accumulate(m, total, valids, zeros, bank, first)
        return m

    def _tree(self, m: Module, sums: Value) -> Value:
        """The registered sum of the tables' entries, in as many bits as it can take."""
        parts = []
        for n in range(self.geometry.tables):
            held = part_signal(-LEAF_BOUND, LEAF_BOUND, f"leaf_{n}")
            m.d.sync += held.eq(sums[n * LEAF_BITS : (n + 1) * LEAF_BITS])
            parts.append(Part(held, -LEAF_BOUND, LEAF_BOUND))
        ranks = [parts]
        for _ in range(self.geometry.tree_levels):
            ranks = add_rank(m, C(1), ranks, 1)
        return ranks[0][0].value

    def _accumulate(
        self, m: Module, total: Value, valids: Signal, zeros: Value, bank: Value, first: Value
    ) -> None:
        """Add the tree's sum to the memory's, where the tile is not the vector's first."""
        geometry, width = self.geometry, self.geometry.sum_width
        row = Signal(range(geometry.bit_rows + 1))
        with m.If(zeros):
            m.d.sync += row.eq(0)
        with m.Elif(valids[-4]):
            m.d.sync += row.eq(row + 1)
        places = [row, *(Signal.like(row, name=f"row_{n}") for n in range(1, 4))]
        m.d.sync += [later.eq(place) for place, later in itertools.pairwise(places)]

        added, old = Signal(width, reset_less=True), Signal(width)
        # block RAM is slow: a register before the adder, and one for the tree's sum beside it
        so_far = Signal(signed(width), reset_less=True)
        waiting = Signal(total.shape(), reset_less=True)
        m.d.sync += [
            so_far.eq(Mux(first, 0, old)),
            waiting.eq(total),
            added.eq(waiting + so_far),
        ]
        reads = Signal(init=0)  # the bank that is read
        with m.If(self.release):
            m.d.sync += reads.eq(~reads)
        depth = 2 * (geometry.bit_rows + 1)
        each = _slice_width(depth)
        for at in range(0, width, each):
            part = slice(at, min(at + each, width))
            memory = Memory(shape=unsigned(part.stop - at), depth=depth, init=[])
            m.submodules[f"memory_{at}"] = memory
            write, read, out = memory.write_port(), memory.read_port(), memory.read_port()
            m.d.comb += [
                read.addr.eq(Cat(bank, row)),
                read.en.eq(1),
                old[part].eq(read.data),
                write.addr.eq(Cat(bank, places[3])),
                write.data.eq(added[part]),
                write.en.eq(valids[-1]),
                out.addr.eq(Cat(reads, self.row)),
                out.en.eq(1),
                self.data[part].eq(out.data),
            ]


def _slice_width(depth: int) -> int:
    """Bits of a sum that one block RAM of 16 or 18 kbit holds for all rows: in slices of that width
    the memory needs no multiplexer behind it.
    """
    widths = ((1 << 10, 18), (1 << 11, 9), (1 << 12, 4), (1 << 13, 2))
    return next((width for most, width in widths if depth <= most), 1)
