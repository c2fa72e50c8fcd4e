"""Proof that a netlist's sums are the code's, for every window, by decision diagrams.

Both sides become binary decision diagrams over the window's bits, which are canonical: two
functions are equal exactly where their diagrams are one node. The specification is built from the
taps and parity masks by two's complement additions, and shares nothing with `hw.terms`.

Registers are read as wires (``q`` is ``d``). That is what a pipeline computes where every register
of a stage moves at once with its valid bit, which `hw.formal_structure` checks on the same netlist.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from algo.code import LiftCode
from algo.errors import LiftError
from hw.netlist import FALSE, TRUE, Netlist
from hw.output import ACC_WIDTH

Diagram = Any  # dd publishes no types
Vector = list[Diagram]  # least significant bit first


@dataclass(frozen=True)
class Refutation:
    """A window for which a weight is not what the code says.

    Attributes:
        lane: group within the beat.
        weight: index of the weight within its group.
        window: the bits of the whole window, as an integer; bits that do not matter are 0.
        expected: the sum that the code's definition gives.
        got: the integer on the netlist's output.
    """

    lane: int
    weight: int
    window: int
    expected: int
    got: int

    def describe(self, window_bits: int) -> str:
        """For people, window bit 0 first."""
        bits = "".join(str(self.window >> n & 1) for n in range(window_bits))
        return (
            f"lane {self.lane}, weight {self.weight}, window bits {bits} (bit 0 first): expected "
            f"{self.expected}, got {self.got}"
        )


def make_manager() -> Any:
    """A manager of decision diagrams.

    Raises:
        LiftError: dd is not installed with CUDD.
    """
    try:
        from dd.cudd import BDD
    except ImportError:
        raise LiftError("dd with CUDD is missing; pip install 'liftquant[rtl]'") from None
    manager = BDD()
    manager.configure(reordering=False)  # the window's own order is a good one, and repeatable
    return manager


def specified_weight(manager: Any, bits: Sequence[Diagram], code: LiftCode, row: int) -> Vector:
    """The 12 bits of weight `row` of a group by the contract; `bits` are its group's D + V.

    ``sum_j taps[row, j] * b_j``, then a tap times the product of its signs for every parity.
    """
    features = [
        (bits[j], int(tap)) for j, tap in enumerate(code.taps[row, : code.lifted + code.overlap])
    ]
    start = code.starts[row]
    for mask, tap in zip(code.parities, code.taps[row, code.lifted + code.overlap :], strict=True):
        positive = manager.true
        for j in range(code.window):
            if mask >> j & 1:
                positive = ~manager.apply("xor", positive, bits[start + j])
        features.append((positive, int(tap)))
    total = [manager.false] * ACC_WIDTH
    for positive, tap in features:
        if tap:
            total = add(manager, total, _choose(manager, positive, tap, -tap))
    return total


def specified_value(window: int, code: LiftCode, row: int) -> int:
    """The same sum for one window, in plain integers."""
    signs = [1 if window >> j & 1 else -1 for j in range(code.lifted + code.overlap)]
    value = sum(int(tap) * sign for tap, sign in zip(code.taps[row], signs, strict=False))
    start = code.starts[row]
    for mask, tap in zip(code.parities, code.taps[row, code.lifted + code.overlap :], strict=True):
        product = 1
        for j in range(code.window):
            product *= signs[start + j] if mask >> j & 1 else 1
        value += int(tap) * product
    return value


def _choose(manager: Any, condition: Diagram, high: int, low: int) -> Vector:
    constant = {(0, 0): manager.false, (1, 1): manager.true, (1, 0): condition}
    constant[0, 1] = ~condition
    return [constant[high >> n & 1, low >> n & 1] for n in range(ACC_WIDTH)]


def add(manager: Any, left: Vector, right: Vector) -> Vector:
    carry, out = manager.false, []
    for a, b in zip(left, right, strict=True):
        either = manager.apply("xor", a, b)
        out.append(manager.apply("xor", either, carry))
        carry = (a & b) | (either & carry)
    return out


def diagrams(
    manager: Any,
    netlist: Netlist,
    roots: Sequence[int],
    leaves: Mapping[int, Diagram],
    through_registers: bool = False,
) -> Vector:
    """Diagrams of `roots` over `leaves`; every path must end in a leaf.

    Raises:
        LiftError: something else is reached, such as an input that should not matter, or a net
            depends on itself.
    """
    values: dict[int, Diagram] = {FALSE: manager.false, TRUE: manager.true, **leaves}
    opened: set[int] = set()
    pending = list(roots)
    while pending:
        net = pending[-1]
        if net in values:
            pending.pop()
            continue
        if net in netlist.undefined:  # one more variable: no result may depend on it
            manager.declare(f"x{net}")
            values[net] = manager.var(f"x{net}")
            continue
        if net in netlist.gates:
            sources = netlist.gates[net]
        elif through_registers and net in netlist.registers:
            sources = (netlist.registers[net].d,)
        else:
            raise LiftError(f"{netlist.name_of(net)} decides an output and is no bit of the window")
        missing = [source for source in sources if source not in values]
        if missing:
            if net in opened:
                raise LiftError(f"{netlist.name_of(net)} decides an output and depends on itself")
            opened.add(net)
            pending += missing
            continue
        pending.pop()
        inputs = [values[source] for source in sources]
        if net in netlist.registers:
            values[net] = inputs[0]
        else:
            values[net] = ~inputs[0] if len(inputs) == 1 else inputs[0] & inputs[1]
    return [values[root] for root in roots]


def window_variables(manager: Any, window: Sequence[int]) -> Vector:
    """One new variable for every bit of a window, in its order.

    Raises:
        LiftError: two bits share a net or one is constant.
    """
    if len(set(window)) < len(window) or not all(net > TRUE for net in window):
        raise LiftError("two window bits share a net or one is constant; the cut is no cut")
    names = [f"w{j}" for j in range(len(window))]
    manager.declare(*names)
    return [manager.var(name) for name in names]


def compare_weight(
    manager: Any, bits: Vector, own: Vector, got: Vector, code: LiftCode, row: int
) -> tuple[int, int, int] | None:
    """Compare one weight with the code.

    Args:
        manager: of all diagrams.
        bits: the variables of the window.
        own: those of them that are its group's D + V.
        got: the weight's 12 bits.
        code: says what they must be.
        row: index of the weight in its group.

    Returns:
        ``(window, expected, got)`` where they differ, the window of all `bits`; or None.
    """
    want = specified_weight(manager, own, code, row)
    wrong = [manager.apply("xor", a, b) for a, b in zip(want, got, strict=True)]
    bad = next((difference for difference in wrong if difference != manager.false), None)
    if bad is None:
        return None
    chosen = dict.fromkeys(manager.vars, False) | manager.pick(bad)

    def value(vector: Vector) -> int:
        return sum((manager.let(chosen, bit) == manager.true) << n for n, bit in enumerate(vector))

    found = value(got)
    signed = found - (found >> ACC_WIDTH - 1 << ACC_WIDTH)
    return value(bits), specified_value(value(own), code, row), signed


def prove_weight(
    netlist: Netlist, window: Sequence[int], outputs: Sequence[int], code: LiftCode, row: int
) -> tuple[tuple[int, int, int] | None, int]:
    """Compare one weight of a pipeline with the code.

    Args:
        netlist: holds the rest.
        window: nets of the group's D + V bits, the first bit first.
        outputs: the weight's 12 nets.
        code: says what they must be.
        row: index of the weight in its group.

    Returns:
        ``(window, expected, got)`` where they differ, or None; and the diagrams' nodes at the end.
    """
    manager = make_manager()
    bits = window_variables(manager, window)
    leaves = dict(zip(window, bits, strict=True))
    got = diagrams(manager, netlist, outputs, leaves, through_registers=True)
    return compare_weight(manager, bits, bits, got, code, row), len(manager)


def prove_projection(
    netlist: Netlist, code: LiftCode, lanes: int, window: Sequence[int], payload: Sequence[int]
) -> tuple[Refutation | None, int]:
    """Compare every weight of a beat with the code, for every window.

    Args:
        netlist: holds the rest.
        code: says what the weights must be.
        lanes: P, groups per beat.
        window: nets of the ``P*D + V`` window bits.
        payload: nets of the ``12*P*d`` output bits.

    Returns:
        The first weight that is wrong for some window, or None; and the nodes of all diagrams.

    Raises:
        LiftError: an output depends on something that is no bit of its group's window.
    """
    span, total = code.lifted + code.overlap, 0
    for lane in range(lanes):
        for row in range(code.group):
            first = (lane * code.group + row) * ACC_WIDTH
            start = lane * code.lifted
            found, nodes = prove_weight(
                netlist, window[start : start + span], payload[first : first + ACC_WIDTH], code, row
            )
            total += nodes
            if found is not None:
                at, expected, got = found
                return Refutation(lane, row, at << start, expected, got), total
    return None, total
