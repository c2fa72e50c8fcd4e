"""Windows in, integer weights out: one beat in C cycles, by as few adders as that takes."""

from dataclasses import dataclass

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring

from hw.geometry import Geometry
from hw.output import ACC_WIDTH
from hw.projection import projection_ports
from hw.sums import Part, accumulator, add_rank, part_signal
from hw.terms import StepTable, adder_ranks, stepped_terms


@dataclass(frozen=True)
class _Steps:
    """Control of the stages.

    Attributes:
        step: the number of the step that goes to the tables.
        issued: it goes there at this edge.
        moves: for the tables and every rank of adders the condition on which they move.
        adds: a sum leaves the last rank.
        completes: it is a beat's last.
    """

    step: Signal
    issued: Value
    moves: list[Signal]
    adds: Value
    completes: Value


class SharedProjection(wiring.Component):  # type: ignore[misc]
    """The projection of P windows, a C-th of every weight's features in each of C steps.

    The window's bits and the parities are held in shift registers, from fixed places of which
    every weight reads its next features: tables of k of them and of the number of the step, a
    tree of adders registered after every `levels` levels, and one accumulator per weight, which a
    beat's last step moves to the output register and clears.

    Latency: `projection_stages(code, architecture)` edges from taking a window to being able to
    transfer its weights at the next. Throughput: one beat per C cycles. A stage moves when it is
    empty or its successor moves.

    Ports:
        i: stream In, payload of `window_bits`; ``ready`` depends on ``o.ready``.
        o: stream Out, payload of `sums_bits`: weight n of the beat, n = lane*d + i, is the
            signed integer in bits [12n, 12n + 12). ``valid`` and the payload are registers.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        super().__init__(projection_ports(geometry))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        code, architecture = self.geometry.code, self.geometry.architecture
        weights = stepped_terms(code, architecture.inputs, architecture.cycles)
        places = [(lane, i) for lane in range(self.geometry.lanes) for i in range(code.group)]

        steps = self._control(m, 1 + adder_ranks(code, architecture))
        held = self._features(m, steps.issued)
        sums = [
            [
                _step_table(
                    m, steps.moves[0], steps.step, leaf, held[lane, i], f"table_{lane}_{i}_{t}"
                )
                for t, leaf in enumerate(weights[i].tables)
            ]
            for lane, i in places
        ]
        for move in steps.moves[1:]:
            sums = add_rank(m, move, sums, architecture.levels)

        outputs = []
        for (lane, i), (part,) in zip(places, sums, strict=True):
            low, high = weights[i].low, weights[i].high
            total = part_signal(low, high, f"total_{lane}_{i}")
            so_far = Signal(total.shape(), name=f"so_far_{lane}_{i}")
            # what overflows on the way comes back: only the last sum need fit
            added = Signal(total.shape(), name=f"added_{lane}_{i}")
            m.d.comb += added.eq(so_far + part.value)
            with m.If(steps.adds):
                m.d.sync += so_far.eq(added)
            with m.If(steps.completes):
                m.d.sync += [so_far.eq(0), total.eq(added)]
            outputs.append(accumulator(total, weights[i].odd, ACC_WIDTH))
        m.d.comb += self.o.payload.eq(Cat(outputs))
        return m

    def _control(self, m: Module, stages: int) -> _Steps:
        """Steps and the valid bits of tables and ranks."""
        cycles = self.geometry.architecture.cycles
        moves = [Signal(name=f"move_{s}") for s in range(stages)]
        busy = Signal()
        step = Signal(range(cycles))
        closes = step == cycles - 1
        issued = busy & moves[0]
        m.d.comb += self.i.ready.eq(~busy | (closes & moves[0]))
        with m.If(issued):
            m.d.sync += step.eq(Mux(closes, 0, step + 1))
        with m.If(self.i.ready):
            m.d.sync += busy.eq(self.i.valid)

        valid, last = busy, closes
        free = Signal()  # the sum behind the last rank may be added
        for s, move in enumerate(moves):
            held, closing = Signal(name=f"valid_{s}"), Signal(name=f"last_{s}")
            m.d.comb += move.eq(~held | (moves[s + 1] if s + 1 < stages else free))
            with m.If(move):
                m.d.sync += [held.eq(valid), closing.eq(last)]
            valid, last = held, closing
        complete = Signal()
        m.d.comb += [free.eq(~last | ~complete | self.o.ready), self.o.valid.eq(complete)]
        with m.If(self.o.ready):
            m.d.sync += complete.eq(0)
        with m.If(valid & last & free):
            m.d.sync += complete.eq(1)
        return _Steps(step, issued, moves, valid & free, valid & last & free)

    def _features(self, m: Module, issued: Value) -> dict[tuple[int, int], list[Value]]:
        """Shift registers of window bits and of parities; for every lane and weight the places
        that its tables read, window bits before parities.
        """
        code, cycles = self.geometry.code, self.geometry.architecture.cycles
        bits, parities = -(-code.window // cycles), -(-len(code.parities) // cycles)
        taken = self.i.ready & self.i.valid

        def shifting(loaded: Value, by: int, name: str) -> Signal:
            register = Signal(len(loaded), name=name, reset_less=True)
            with m.If(taken):
                m.d.sync += register.eq(loaded)
            with m.Elif(issued):
                m.d.sync += register.eq(register >> by)
            return register

        window = shifting(self.i.payload, bits, "window")
        # a weight near the end may read past it, where its taps are zero
        ahead = Cat(window, C(0, bits))
        places: dict[tuple[int, int], list[Value]] = {}
        for lane in range(self.geometry.lanes):
            for i, start in enumerate(code.starts):
                at = lane * code.lifted + start
                places[lane, i] = list(ahead[at : at + bits])
                if code.parities:
                    own = self.i.payload[at : at + code.window]
                    loaded = Cat((own & mask).xor() for mask in code.parities)
                    held = shifting(loaded, parities, f"parities_{lane}_{i}")
                    places[lane, i] += list(held[:parities])
        return places


def _step_table(
    m: Module, move: Value, step: Signal, leaf: StepTable, features: list[Value], name: str
) -> Part:
    """The register of one table: one case for every step and value of its features."""
    low = min(min(values) for values in leaf.values)
    high = max(max(values) for values in leaf.values)
    held = part_signal(low, high, name)
    address = Cat(features[leaf.first : leaf.first + leaf.inputs], step)
    # numbers that are no step read like those without their highest bit: the least logic
    spare = leaf.values[len(leaf.values) - (1 << len(step) - 1) : 1 << len(step) - 1]
    with m.If(move), m.Switch(address):
        for at, values in enumerate((*leaf.values, *spare)):
            for x, value in enumerate(values):
                with m.Case(at << leaf.inputs | x):
                    m.d.sync += held.eq(value)
    return Part(held, low, high)
