"""Leaves and levels of the adder trees, each value exactly as wide as it can become."""

from dataclasses import dataclass

from amaranth.hdl import C, Cat, Module, Signal, Value, signed

from hw.terms import Table


@dataclass(frozen=True)
class Part:
    """A partial sum and the range it is known to stay in."""

    value: Signal
    low: int
    high: int


def part_signal(low: int, high: int, name: str) -> Signal:
    """A signal, or a register that reset leaves alone, for values from `low` to `high`."""
    width = max((~low if low < 0 else low).bit_length(), (~high if high < 0 else high).bit_length())
    return Signal(signed(width + 1), name=name, reset_less=True)


def table(m: Module, move: Value | None, leaf: Table, inputs: list[Value], name: str) -> Part:
    """The entry that `inputs` select: registered where `move`, without it combinational."""
    low, high = min(leaf.values), max(leaf.values)
    held = part_signal(low, high, name)
    if move is None:
        with m.Switch(Cat(inputs)):
            for x, value in enumerate(leaf.values):
                with m.Case(x):
                    m.d.comb += held.eq(value)
        return Part(held, low, high)
    with m.If(move), m.Switch(Cat(inputs)):
        for x, value in enumerate(leaf.values):
            with m.Case(x):
                m.d.sync += held.eq(value)
    return Part(held, low, high)


def add_rank(m: Module, move: Value, sums: list[list[Part]], levels: int) -> list[list[Part]]:
    """Up to `levels` levels of adders and the register behind them, for every sum alike."""
    for _ in range(levels - 1):
        if max(map(len, sums)) <= 2:
            break
        sums = [_add_pairs(m, None, parts) for parts in sums]
    return [_add_pairs(m, move, parts) for parts in sums]


def _add_pairs(m: Module, move: Value | None, parts: list[Part]) -> list[Part]:
    """One level of the tree; an odd part out passes through, in step with the others."""
    out = []
    for at in range(0, len(parts), 2):
        pair = parts[at : at + 2]
        if move is None and len(pair) == 1:
            out += pair
            continue
        low, high = sum(p.low for p in pair), sum(p.high for p in pair)
        held = part_signal(low, high, f"{pair[0].value.name}s")
        total = sum((p.value for p in pair[1:]), pair[0].value)
        if move is None:
            m.d.comb += held.eq(total)
        else:
            with m.If(move):
                m.d.sync += held.eq(total)
        out.append(Part(held, low, high))
    return out


def accumulator(total: Value | None, odd: int, width: int) -> Value:
    """``2 * total + odd`` in `width` bits; a weight without taps has no total and is zero."""
    if total is None:
        return C(0, width)
    sign = total[-1].replicate(width - 1 - len(total))
    return Cat(C(odd, 1), total, sign)
