"""Harness: a projection in steps adds up every beat's steps, all and in order, beat after beat."""

from dataclasses import dataclass

from amaranth.hdl import Assert, C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.formal_stream import assert_stable


@dataclass(frozen=True)
class _Control:
    """What decides when something moves, as in `hw.formal_steps`."""

    busy: Signal
    complete: Signal
    step: Signal
    valids: list[Signal]
    lasts: list[Signal]
    moves: list[Value]
    issued: Value
    ready: Value
    adds: Value
    completes: Value


@dataclass(frozen=True)
class _Labels:
    """Which beat, and which of its steps, is where.

    Attributes:
        came, went: beats taken and given.
        window, shifted: the beat in the features, and by how many steps they were shifted.
        beats, shifts, steps: of the stages: the beat, that number, and the step of the tables.
        summed, added: the beat of the sum so far, and how many steps are in it.
        total: the beat of the total.
    """

    came: Signal
    went: Signal
    window: Signal
    shifted: Signal
    beats: list[Signal]
    shifts: list[Signal]
    steps: list[Signal]
    summed: Signal
    added: Signal
    total: Signal


class FormalShared(wiring.Component):  # type: ignore[misc]
    """The machine that `hw.formal_steps` describes, with labels for data, and what it owes.

    Every register of data holds the label of what is in it: the number of the beat as it was taken,
    and the step. What is added is always the step after the one added before it, of the same beat;
    a total is moved out with a beat's last step, after all others; totals come out in the order in
    which beats were taken, each once. So nothing is lost, doubled, made up or reordered. An offer
    is stable, and where the output is ready everything moves.

    Beats are numbered modulo a power of two that is more than can be inside.

    Args:
        cycles: C, steps per beat, at least 2.
        stages: n, tables and ranks of adders, at least 1.
    """

    def __init__(self, cycles: int, stages: int) -> None:
        self.cycles = cycles
        self.stages = stages
        # a beat in the window, one in every stage, one being added, one complete
        self.beats = 1 << (stages + 3).bit_length()
        super().__init__({name: In(1) for name in ("i_valid", "o_ready")})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        control = self._control(m)
        labels = self._labels(m, control)
        self._assert_order(m, control, labels)
        self._assert_tied(m, control, labels)
        assert_stable(m, control.complete, self.o_ready, labels.total)
        return m

    def _control(self, m: Module) -> "_Control":
        cycles, stages = self.cycles, self.stages
        busy, complete = Signal(name="busy"), Signal(name="complete")
        step = Signal(range(cycles))
        valids = [Signal(name=f"valid_{s}") for s in range(stages)]
        lasts = [Signal(name=f"last_{s}") for s in range(stages)]
        closes = step == cycles - 1
        free = ~lasts[-1] | ~complete | self.o_ready
        moves: list[Value] = []
        for valid in reversed(valids):
            moves.insert(0, ~valid | (moves[0] if moves else free))
        issued = busy & moves[0]
        ready = ~busy | (closes & moves[0])
        adds = valids[-1] & free
        completes = adds & lasts[-1]
        m.d.sync += complete.eq(completes | (complete & ~self.o_ready))
        with m.If(issued):
            m.d.sync += step.eq(Mux(closes, 0, step + 1))
        with m.If(ready):
            m.d.sync += busy.eq(self.i_valid)
        for s, move in enumerate(moves):
            with m.If(move):
                m.d.sync += [
                    valids[s].eq(valids[s - 1] if s else busy),
                    lasts[s].eq(lasts[s - 1] if s else closes),
                ]
        return _Control(
            busy, complete, step, valids, lasts, moves, issued, ready, adds, completes,
        )  # fmt: skip

    def _labels(self, m: Module, control: "_Control") -> "_Labels":
        """Labels, moved as the data are."""

        def beat(name: str) -> Signal:
            return Signal(range(self.beats), name=name)

        def count(name: str) -> Signal:
            return Signal(range(self.cycles), name=name)

        stages = range(self.stages)
        labels = _Labels(
            beat("came"), beat("went"), beat("window"), count("shifted"),
            [beat(f"beat_{s}") for s in stages], [count(f"shift_{s}") for s in stages],
            [count(f"step_{s}") for s in stages], beat("summed"), count("added"), beat("total"),
        )  # fmt: skip
        taken = self.i_valid & control.ready
        m.d.sync += [
            labels.came.eq(labels.came + taken),
            labels.went.eq(labels.went + (control.complete & self.o_ready)),
        ]
        with m.If(taken):
            m.d.sync += [labels.window.eq(labels.came), labels.shifted.eq(0)]
        with m.Elif(control.issued):
            m.d.sync += labels.shifted.eq(labels.shifted + 1)
        for s, move in enumerate(control.moves):
            with m.If(move):
                m.d.sync += [
                    labels.beats[s].eq(labels.beats[s - 1] if s else labels.window),
                    labels.shifts[s].eq(labels.shifts[s - 1] if s else labels.shifted),
                    labels.steps[s].eq(labels.steps[s - 1] if s else control.step),
                ]
        with m.If(control.adds):
            m.d.sync += [
                labels.summed.eq(labels.beats[-1]),
                labels.added.eq(Mux(control.lasts[-1], 0, labels.added + 1)),
            ]
        with m.If(control.completes):
            m.d.sync += labels.total.eq(labels.beats[-1])
        return labels

    def _assert_order(self, m: Module, control: "_Control", labels: "_Labels") -> None:
        with m.If(control.adds):
            m.d.comb += [
                Assert(labels.shifts[-1] == labels.steps[-1]),
                Assert(labels.steps[-1] == labels.added),
                Assert((labels.added == 0) | (labels.beats[-1] == labels.summed)),
                Assert(control.completes == (labels.added == self.cycles - 1)),
            ]
        with m.If(control.complete):
            m.d.comb += [Assert(labels.total == labels.went), Assert(labels.came != labels.went)]
        with m.If(self.o_ready):
            m.d.comb += [
                Assert(Cat(control.moves).all()),
                Assert(control.ready | control.issued),
            ]

    def _assert_tied(self, m: Module, control: "_Control", labels: "_Labels") -> None:
        """What ties the labels to each other: steps by the number of those issued before."""
        cycles, modulus = self.cycles, self.beats * self.cycles
        issues = Signal(range(modulus))
        m.d.sync += issues.eq(Mux(control.issued, _after(issues, 1, modulus), issues))
        m.d.comb += [
            Assert(issues < modulus),
            Assert(control.step < cycles),
            Assert(issues == self._label(labels.came - control.busy, control.step)),
            Assert(control.busy | (control.step == 0)),
        ]
        with m.If(control.busy):
            m.d.comb += [
                Assert((labels.window + 1)[: len(labels.came)] == labels.came),
                Assert(labels.shifted == control.step),
            ]
        inside: Value = C(0, 1)
        for s in range(self.stages):
            inside = inside + control.valids[s]
            label = self._label(labels.beats[s], labels.steps[s])
            with m.If(control.valids[s]):
                m.d.comb += [
                    Assert(labels.steps[s] < cycles),
                    Assert(labels.shifts[s] == labels.steps[s]),
                    Assert(control.lasts[s] == (labels.steps[s] == cycles - 1)),
                    Assert(issues == _after(label, inside, modulus)),
                ]
        made = (labels.went + control.complete)[: len(labels.went)]
        m.d.comb += [
            Assert(labels.added < cycles),
            Assert(issues == _after(self._label(made, labels.added), inside, modulus)),
        ]
        with m.If(labels.added != 0):
            m.d.comb += Assert(labels.summed == made)

    def _label(self, beat: Value, step: Value) -> Value:
        """Steps before this one, modulo those of all beats that have a number."""
        return beat[: (self.beats - 1).bit_length()] * self.cycles + step


def _after(label: Value, steps: Value | int, modulus: int) -> Value:
    """The label so many steps later."""
    later = label + steps
    return Mux(later >= modulus, later - modulus, later)
