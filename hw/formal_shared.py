"""Harness: a projection in steps adds up every beat's steps, all and in order, beat after beat."""

from amaranth.hdl import Assert, C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.formal_stream import assert_stable


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
        cycles, stages = self.cycles, self.stages
        busy, complete = Signal(), Signal()
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
        taken, given = self.i_valid & ready, complete & self.o_ready
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

        # labels, moved as the data are
        def beat(name: str) -> Signal:
            return Signal(range(self.beats), name=name)

        def count(name: str) -> Signal:
            return Signal(range(cycles), name=name)

        came, went = beat("came"), beat("went")
        window, shifted = beat("window"), count("shifted")
        m.d.sync += [came.eq(came + taken), went.eq(went + given)]
        with m.If(taken):
            m.d.sync += [window.eq(came), shifted.eq(0)]
        with m.Elif(issued):
            m.d.sync += shifted.eq(shifted + 1)
        beats = [beat(f"beat_{s}") for s in range(stages)]
        # by how much the features were shifted, and the step whose tables they met
        shifts = [count(f"shift_{s}") for s in range(stages)]
        steps = [count(f"step_{s}") for s in range(stages)]
        for s, move in enumerate(moves):
            with m.If(move):
                m.d.sync += [
                    beats[s].eq(beats[s - 1] if s else window),
                    shifts[s].eq(shifts[s - 1] if s else shifted),
                    steps[s].eq(steps[s - 1] if s else step),
                ]
        summed, added = beat("summed"), count("added")
        total = beat("total")
        with m.If(adds):
            m.d.sync += [summed.eq(beats[-1]), added.eq(Mux(lasts[-1], 0, added + 1))]
        with m.If(completes):
            m.d.sync += total.eq(beats[-1])

        with m.If(adds):
            m.d.comb += [
                Assert(shifts[-1] == steps[-1]),
                Assert(steps[-1] == added),
                Assert((added == 0) | (beats[-1] == summed)),
                Assert(completes == (added == cycles - 1)),
            ]
        with m.If(complete):
            m.d.comb += [Assert(total == went), Assert(came != went)]
        with m.If(self.o_ready):
            m.d.comb += [Assert(Cat(moves).all()), Assert(ready | issued)]
        assert_stable(m, complete, self.o_ready, total)

        # what ties the labels to each other: steps by the number of those issued before
        issues = Signal(range(self.beats * cycles))
        m.d.sync += issues.eq(Mux(issued, _after(issues, 1, self.beats * cycles), issues))
        m.d.comb += [
            Assert(issues < self.beats * cycles),
            Assert(step < cycles),
            Assert(issues == self._label(came - busy, step)),
            Assert(busy | (step == 0)),
        ]
        with m.If(busy):
            m.d.comb += [Assert((window + 1)[: len(came)] == came), Assert(shifted == step)]
        inside: Value = C(0, 1)
        for s in range(stages):
            inside = inside + valids[s]
            label = self._label(beats[s], steps[s])
            with m.If(valids[s]):
                m.d.comb += [
                    Assert(steps[s] < cycles),
                    Assert(shifts[s] == steps[s]),
                    Assert(lasts[s] == (steps[s] == cycles - 1)),
                    Assert(issues == _after(label, inside, self.beats * cycles)),
                ]
        m.d.comb += [
            Assert(added < cycles),
            Assert(issues == _after(self._label(went + complete, added), inside,
                                    self.beats * cycles)),
        ]  # fmt: skip
        with m.If(added != 0):
            m.d.comb += Assert(summed == (went + complete)[: len(went)])
        with m.If(complete):
            m.d.comb += Assert(total == went)
        return m

    def _label(self, beat: Value, step: Value) -> Value:
        """Steps before this one, modulo those of all beats that have a number."""
        return beat[: (self.beats - 1).bit_length()] * self.cycles + step


def _after(label: Value, steps: Value | int, modulus: int) -> Value:
    """The label so many steps later."""
    later = label + steps
    return Mux(later >= modulus, later - modulus, later)
