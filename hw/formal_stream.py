"""What every stream owes: shared by the harnesses of the parts."""

from amaranth.hdl import Assert, C, Module, Mux, Signal, Value


def assert_stable(m: Module, valid: Value, ready: Value, payload: Value) -> None:
    """An offer stays, unchanged, until it is taken; a reset ends it."""
    waiting = Signal(name="waiting")
    offered = Signal(len(payload), name="offered")
    m.d.sync += [waiting.eq(valid & ~ready), offered.eq(payload)]
    with m.If(waiting):
        m.d.comb += [Assert(valid), Assert(payload == offered)]


def count_steps(m: Module, states: int, step: Value, name: str) -> Value:
    """The number of steps so far, modulo `states`."""
    if states == 1:
        return C(0, 1)
    index = Signal(range(states), name=name)
    with m.If(step):
        m.d.sync += index.eq(Mux(index == states - 1, 0, index + 1))
    m.d.comb += Assert(index < states)
    return index
