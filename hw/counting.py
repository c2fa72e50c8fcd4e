"""Where in a stream a beat is."""

from amaranth.hdl import C, Module, Mux, Signal, Value


def last_of(m: Module, count: int, step: Value, name: str) -> Value:
    """High while `count` - 1 of every `count` steps have passed."""
    if count == 1:
        return C(1, 1)
    left = Signal(range(count), init=count - 1, name=name)
    with m.If(step):
        m.d.sync += left.eq(Mux(left == 0, count - 1, left - 1))
    return left == 0
