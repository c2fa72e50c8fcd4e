"""Proof of what a decoder's last stage makes of sums, for all sums and multipliers, by diagrams.

The specifications are built from the definitions of saturation and of `algo.activations.requantise`
and share nothing with `hw.resize` and `hw.requantise`. Registers are read as wires, as in
`hw.formal_arithmetic`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hw.formal_arithmetic import Diagram, Vector, add, diagrams, make_manager
from hw.netlist import FALSE, TRUE, Netlist
from hw.output import ACC_WIDTH, Output

WHOLE_MULTIPLIERS = 16  # diagrams of a product are feasible up to as many bits
_PART = 12


@dataclass(frozen=True)
class WrongWeight:
    """A sum that the last stage makes another weight of than it should.

    Attributes:
        weight: index within the beat.
        total: the sum.
        multiplier: its multiplier, 1 where there is none.
        expected: what it should become.
        got: what the netlist gives.
    """

    weight: int
    total: int
    multiplier: int
    expected: int
    got: int

    def describe(self) -> str:
        """For people."""
        return (
            f"weight {self.weight}, sum {self.total}, multiplier {self.multiplier}: expected "
            f"{self.expected}, got {self.got}"
        )


def specified_output(manager: Any, total: Vector, factor: Vector, output: Output) -> Vector:
    """The bits of a weight by the contract, from the 12 bits of its sum and its multiplier's."""
    if output.scale is None:
        return _saturated(manager, total, output.width)
    sign = total[-1]
    flipped = [manager.apply("xor", bit, sign) for bit in total]
    magnitude = add(manager, flipped, [sign, *[manager.false] * (ACC_WIDTH - 1)])
    bits = ACC_WIDTH + len(factor) + 1
    product: Vector = [manager.false] * max(bits, output.scale.shift + 1)
    for place in range(len(factor)):
        row = [manager.false] * place + [bit & factor[place] for bit in magnitude]
        product = add(manager, product, _padded(manager, row, len(product)))
    half = [manager.false] * len(product)
    half[output.scale.shift - 1] = manager.true
    rounded = add(manager, product, half)[output.scale.shift :]
    rounded = _padded(manager, rounded, max(len(rounded), output.width) + 1)
    minus = [manager.apply("xor", bit, sign) for bit in rounded]
    signed = add(manager, minus, _padded(manager, [sign], len(minus)))
    return _saturated(manager, signed, output.width)


def specified_integer(total: int, factor: int, output: Output) -> int:
    """The same for one sum, in plain integers."""
    value = total
    if output.scale is not None:
        shift = output.scale.shift
        value = (abs(total) * factor + (1 << shift - 1)) >> shift
        value = -value if total < 0 else value
    limit = 1 << output.width - 1
    return max(-limit, min(limit - 1, value))


def _saturated(manager: Any, value: Vector, width: int) -> Vector:
    """A two's complement number in `width` bits, extended or bounded."""
    sign = value[-1]
    if width >= len(value):
        return value + [sign] * (width - len(value))
    fits = manager.true
    for bit in value[width - 1 : -1]:
        fits &= ~manager.apply("xor", bit, sign)
    bounded = [~sign] * (width - 1) + [sign]
    return [manager.ite(fits, bit, end) for bit, end in zip(value, bounded, strict=False)]


def _padded(manager: Any, vector: Vector, length: int) -> Vector:
    return [*vector, *[manager.false] * (length - len(vector))][:length]


def prove_output(
    netlist: Netlist,
    sums: Sequence[int],
    factors: Sequence[int],
    weights: Sequence[int],
    output: Output,
) -> tuple[WrongWeight | None, int, int]:
    """Compare every weight of a beat with the contract, for all sums (+-2047) and multipliers.

    Bits of a sum that are constant or one net (its parity, its repeated sign) stay so. Long
    multipliers are tried as `free_multiplier_bits` says.

    Args:
        netlist: holds the rest.
        sums: nets of the 12-bit sums of a beat.
        factors: nets of its multipliers, one or one per sum; none where there is no scale.
        weights: nets of the outputs.
        output: says what they must be.

    Returns:
        The first weight that is wrong for some sum, or None; the nodes of all diagrams; and how
        many weights were compared (those that are one circuit but for its inputs count once).

    Raises:
        LiftError: a weight depends on something else.
    """
    bits = output.scale.multiplier_bits if output.scale else 0
    seen: set[object] = set()
    nodes = 0
    for n in range(len(sums) // ACC_WIDTH):
        total = sums[n * ACC_WIDTH : (n + 1) * ACC_WIDTH]
        at = n * bits if len(factors) > bits else 0
        factor = factors[at : at + bits]
        outputs = weights[n * output.width : (n + 1) * output.width]
        circuit = _circuit(netlist, outputs, [*total, *factor])
        if circuit in seen:
            continue
        seen.add(circuit)
        for free in free_multiplier_bits(bits):
            wrong, used = _compare(netlist, total, factor, free, outputs, output)
            nodes += used
            if wrong is not None:
                return WrongWeight(n, *wrong), nodes, len(seen)
    return None, nodes, len(seen)


def free_multiplier_bits(bits: int) -> list[range]:
    """The bits of a multiplier that are tried in all combinations at once, the others being 0.

    All of them up to `WHOLE_MULTIPLIERS`; beyond, every 12 bits that follow each other.
    """
    if bits <= WHOLE_MULTIPLIERS:
        return [range(bits)]
    return [range(at, at + _PART) for at in range(bits - _PART + 1)]


def _compare(
    netlist: Netlist,
    total: Sequence[int],
    factor: Sequence[int],
    free: range,
    outputs: Sequence[int],
    output: Output,
) -> tuple[tuple[int, int, int, int] | None, int]:
    manager = make_manager()
    known = {FALSE: manager.false, TRUE: manager.true}
    known |= {net: manager.false for n, net in enumerate(factor) if n not in free}
    # highest bits first: then a product is a constant times what is left
    for net in (*reversed(total), *reversed(factor)):
        if net not in known:
            manager.declare(f"n{net}")
            known[net] = manager.var(f"n{net}")
    leaves = {net: bit for net, bit in known.items() if net > TRUE}
    values = [known[net] for net in total], [known[net] for net in factor]
    got = diagrams(manager, netlist, outputs, leaves, through_registers=True)
    want = specified_output(manager, *values, output)
    wrong = [manager.apply("xor", a, b) for a, b in zip(want, got, strict=True)]
    possible = ~values[0][-1]  # no code has a sum of -2048
    for bit in values[0][:-1]:
        possible |= bit
    bad = next((some for some in wrong if some & possible != manager.false), None)
    if bad is None:
        return None, len(manager)
    bad &= possible
    chosen = dict.fromkeys(manager.vars, False) | manager.pick(bad)

    def value(vector: list[Diagram], signed: bool) -> int:
        bits = [manager.let(chosen, bit) == manager.true for bit in vector]
        number: int = sum(bit << n for n, bit in enumerate(bits))
        return number - (bits[-1] << len(bits)) if signed else number

    sum_ = value(values[0], True)
    multiplier = value(values[1], False) if factor else 1
    expected = specified_integer(sum_, multiplier, output)
    return (sum_, multiplier, expected, value(got, True)), len(manager)


def _circuit(netlist: Netlist, outputs: Sequence[int], inputs: Sequence[int]) -> object:
    """What `outputs` are of `inputs`, but for the nets' numbers: equal circuits, equal functions.

    Inputs are numbered by their place, everything else in the order in which it is reached.
    """
    numbers: dict[int, int] = {FALSE: -1, TRUE: -2}
    for place, net in enumerate(inputs):
        numbers.setdefault(net, place)
    gates: list[tuple[int, ...]] = []
    pending, opened = list(outputs), set[int]()
    while pending:
        net = pending[-1]
        if net in numbers:
            pending.pop()
            continue
        register = netlist.registers.get(net)
        sources = (register.d,) if register else netlist.gates.get(net, ())
        if not sources:
            return net  # something else decides, and the comparison says so
        missing = [source for source in sources if source not in numbers]
        if missing:
            if net in opened:
                return net
            opened.add(net)
            pending += missing
            continue
        pending.pop()
        gates.append((bool(register), *(numbers[source] for source in sources)))
        numbers[net] = len(inputs) + len(gates)
    aliases = tuple(numbers[net] for net in inputs)
    return tuple(gates), aliases, tuple(numbers[net] for net in outputs)
