"""Windows in, integer weights out: one beat in C cycles, by a C-th of the adders."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.geometry import ACC_WIDTH, Geometry
from hw.sums import Part, accumulator, add_rank, part_signal
from hw.terms import Table, WeightTerms, adder_ranks, weight_terms

Members = tuple[int, ...]


@dataclass(frozen=True)
class _Turn:
    """What a unit of adders does in one step: one weight of one lane."""

    lane: int
    row: int


class SharedProjection(wiring.Component):  # type: ignore[misc]
    """The projection of P windows by ceil(P*d/C) units, each of which decodes C weights in turn.

    The window's bits and parities are registered. In step s, every table of a unit is indexed by
    k features of the unit's s-th weight and by s; a tree of adders, registered after every `levels`
    levels, sums the tables, and the sums shift into the beat in the making, which the last step
    completes. Weights are dealt to units row by row of the taps, so that the lanes of one weight
    share tables as well as adders.

    Latency: `projection_stages(code, architecture)` edges from taking a window to being able to
    transfer its weights at the next. Throughput: one beat per C cycles. A stage moves when it is
    empty or its successor moves.

    Ports:
        i: stream In, payload of `window_bits`; ``ready`` depends on ``o.ready``.
        o: stream Out, payload of `payload_bits`: weight n of the beat, n = lane*d + i, is the
            signed integer in bits [12n, 12n + 12). ``valid`` and the payload are registers.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(geometry.window_bits))),
                "o": Out(stream.Signature(unsigned(geometry.payload_bits))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        architecture = self.geometry.architecture
        weights = weight_terms(self.geometry.code, architecture.inputs)
        units = self._units()

        moves = [
            Signal(name=f"move_{s}")
            for s in range(2 + adder_ranks(self.geometry.code, architecture))
        ]
        step, arriving = self._control(m, moves)
        features = self._features(m, weights)
        sums = [
            self._tables(m, moves[0], step, unit, u, weights, features)
            for u, unit in enumerate(units)
        ]
        for move in moves[1:-1]:
            sums = add_rank(m, move, sums, architecture.levels)

        outputs: dict[tuple[int, int], Value] = {}
        for unit, parts in zip(units, sums, strict=True):
            last = parts[0] if parts else None
            made = self._collect(m, moves[-1] & arriving, unit, last)
            for turn, total in zip(unit, made, strict=True):
                outputs[turn.lane, turn.row] = accumulator(total, weights[turn.row], ACC_WIDTH)
        m.d.comb += self.o.payload.eq(Cat(outputs[key] for key in sorted(outputs)))
        return m

    def _units(self) -> list[list[_Turn]]:
        """C weights for each unit, the last may have fewer; its turns are the last steps."""
        turns = [
            _Turn(lane, row)
            for row in range(self.geometry.code.group)
            for lane in range(self.geometry.lanes)
        ]
        cycles = self.geometry.architecture.cycles
        return [turns[at : at + cycles] for at in range(0, len(turns), cycles)]

    def _control(self, m: Module, moves: list[Signal]) -> tuple[Signal, Value]:
        """Steps and valid bits; returns the step, and that a sum arrives at the beat in the making.

        moves[0] is the condition on which the tables move, the last on which the beat does.
        """
        cycles = self.geometry.architecture.cycles
        busy, step = Signal(), Signal(range(cycles))
        complete = Signal()
        last = step == cycles - 1
        issued = busy & moves[0]
        m.d.comb += self.i.ready.eq(~busy | (last & moves[0]))
        with m.If(issued):
            m.d.sync += step.eq(step + 1)
            with m.If(last):
                m.d.sync += [step.eq(0), busy.eq(0)]
        with m.If(self.i.ready & self.i.valid):
            m.d.sync += busy.eq(1)

        valid: Value = busy
        final: Value = last
        for s, move in enumerate(moves[:-1]):
            held, closing = Signal(name=f"valid_{s}"), Signal(name=f"final_{s}")
            m.d.comb += move.eq(~held | moves[s + 1])
            with m.If(move):
                m.d.sync += [held.eq(valid), closing.eq(final)]
            valid, final = held, closing
        m.d.comb += [moves[-1].eq(~complete | self.o.ready), self.o.valid.eq(complete)]
        with m.If(moves[-1]):
            m.d.sync += complete.eq(valid & final)
        return step, valid

    def _features(
        self, m: Module, weights: tuple[WeightTerms, ...]
    ) -> dict[tuple[int, Members], Value]:
        """Registered features by lane and by the window bits they are the XOR of; lanes whose
        windows overlap use one register.
        """
        registers: dict[Members, Signal] = {}
        features: dict[tuple[int, Members], Value] = {}
        for lane in range(self.geometry.lanes):
            for members in sorted({f for w in weights for t in w.tables for f in t.features}):
                places = tuple(lane * self.geometry.code.lifted + j for j in members)
                if places not in registers:
                    name = "_".join(map(str, ("feature", *places)))
                    registers[places] = Signal(name=name, reset_less=True)
                    with m.If(self.i.ready & self.i.valid):
                        m.d.sync += registers[places].eq(Cat(self.i.payload[j] for j in places).xor())
                features[lane, members] = registers[places]
        return features

    def _tables(
        self,
        m: Module,
        move: Value,
        step: Signal,
        unit: list[_Turn],
        number: int,
        weights: tuple[WeightTerms, ...],
        features: dict[tuple[int, Members], Value],
    ) -> list[Part]:
        """The unit's registered tables: as many as its largest weight has."""
        first = self.geometry.architecture.cycles - len(unit)
        parts = []
        for t in range(max(len(weights[turn.row].tables) for turn in unit)):
            leaves = {
                first + n: (turn.lane, weights[turn.row].tables[t])
                for n, turn in enumerate(unit)
                if t < len(weights[turn.row].tables)
            }
            parts.append(self._table(m, move, step, leaves, features, f"table_{number}_{t}"))
        return parts

    def _table(
        self,
        m: Module,
        move: Value,
        step: Signal,
        leaves: dict[int, tuple[int, Table]],
        features: dict[tuple[int, Members], Value],
        name: str,
    ) -> Part:
        """One table register; steps without a leaf add nothing."""
        inputs = Signal(max(len(leaf.features) for _, leaf in leaves.values()), name=f"{name}_in")
        with m.Switch(step):
            for at, (lane, leaf) in leaves.items():
                with m.Case(at):
                    m.d.comb += inputs.eq(Cat(features[lane, f] for f in leaf.features))
        values = [value for _, leaf in leaves.values() for value in leaf.values]
        low, high = min(0, *values), max(0, *values)
        held = part_signal(low, high, name)
        with m.If(move):
            m.d.sync += held.eq(0)
            with m.Switch(step):
                for at, (_, leaf) in leaves.items():
                    with m.Case(at), m.Switch(inputs):
                        for x in range(1 << len(inputs)):
                            with m.Case(x):
                                m.d.sync += held.eq(leaf.values[x % len(leaf.values)])
        return Part(held, low, high)

    def _collect(
        self, m: Module, shift: Value, unit: list[_Turn], total: Part | None
    ) -> list[Value | None]:
        """The beat's sums of one unit, by turn: each new one pushes the others along."""
        if total is None:
            return [None] * len(unit)
        made = [
            part_signal(total.low, total.high, f"made_{turn.lane}_{turn.row}") for turn in unit
        ]
        with m.If(shift):
            m.d.sync += [
                now.eq(after) for now, after in zip(made, [*made[1:], total.value], strict=True)
            ]
        return list(made)
