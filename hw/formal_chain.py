"""Harness: a chain of stages is a queue."""

from amaranth.hdl import Assert, Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.formal_stream import assert_stable


class FormalChain(wiring.Component):  # type: ignore[misc]
    """The machine that `hw.formal_structure` describes, with one bit for data, and what it owes.

    One payload, chosen by ``mark`` at any time, is followed: the harness counts how many were taken
    before it and not given yet, and that many are given before it comes out with its own data. So
    nothing is lost, doubled, made up or reordered. An offer is stable, the chain never blocks
    itself, and what is in it are the valid bits. One bit of data suffices, for the control looks at
    none of them.

    Args:
        stages: n, at least 1.
    """

    def __init__(self, stages: int) -> None:
        self.stages = stages
        super().__init__({name: In(1) for name in ("i_valid", "i_payload", "o_ready", "mark")})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valids = [Signal(name=f"valid_{s}") for s in range(self.stages)]
        data = [Signal(name=f"data_{s}", reset_less=True) for s in range(self.stages)]
        move: Value = self.o_ready
        for s in reversed(range(self.stages)):
            move = ~valids[s] | move
            with m.If(move):
                m.d.sync += [
                    valids[s].eq(valids[s - 1] if s else self.i_valid),
                    data[s].eq(data[s - 1] if s else self.i_payload),
                ]
        ready, valid, payload = move, valids[-1], data[-1]
        taken, given = self.i_valid & ready, valid & self.o_ready

        held = Signal(range(self.stages + 1))  # taken and not given yet
        followed = Signal()
        value = Signal()
        before = Signal(range(self.stages + 1))  # of those, the ones ahead of the followed
        m.d.sync += held.eq(held + taken - given)
        with m.If(taken & self.mark & ~followed):
            m.d.sync += [followed.eq(1), value.eq(self.i_payload), before.eq(held - given)]
        with m.Elif(given & followed):
            m.d.sync += [before.eq(before - 1), followed.eq(before != 0)]

        with m.If(valid):
            m.d.comb += Assert(held > 0)
        with m.If(valid & followed & (before == 0)):
            m.d.comb += Assert(payload == value)
        with m.If(self.o_ready):
            m.d.comb += Assert(ready)
        m.d.comb += Assert(ready | valid)
        assert_stable(m, valid, self.o_ready, payload)
        # what holds between the two, and makes the steps of the induction provable
        m.d.comb += Assert(held == _count(valids))
        with m.If(followed):
            m.d.comb += Assert(before < held)
        for s in range(self.stages):
            with m.If(followed & valids[s] & (_count(valids[s + 1 :]) == before)):
                m.d.comb += Assert(data[s] == value)
        return m


def _count(bits: list[Signal]) -> Value:
    return sum((bit for bit in bits), Cat())
