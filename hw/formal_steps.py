"""What a netlist's wiring shows of a projection in steps.

The machine, n stages of tables and adders, C steps a beat::

    closes     = step == C - 1            free    = ~last[n - 1] | ~complete | the output's ready
    move[s]    = ~valid[s] | move[s + 1]  move[n] = free
    issued     = busy & move[0]           adds    = valid[n - 1] & free
    ready      = ~busy | closes & move[0] completes = adds & last[n - 1]
    taken      = ready & the input's valid
    busy       = reset ? 0 : ready ? the input's valid : busy
    step       = reset ? 0 : issued ? (closes ? 0 : step + 1) : step
    valid[s]   = reset ? 0 : move[s] ? valid[s - 1] : valid[s]        valid[-1] = busy
    last[s]    = reset ? 0 : move[s] ? last[s - 1] : last[s]          last[-1]  = closes
    complete   = reset ? 0 : completes | complete & ~the output's ready
    features   = taken ? load(payload) : issued ? shift(features) : features
    data[s]    = move[s] ? f_s(data[s - 1]) : data[s]                 data[-1]  = features, step
    so_far     = reset | completes ? 0 : adds ? add(so_far, data[n - 1]) : so_far
    total      = completes ? end(so_far, data[n - 1]) : total

with ``complete`` and ``g(total)`` at its output. That such a machine adds each beat's steps, all of
them and in order, and loses, doubles and reorders nothing is proved by induction
(`hw.formal_shared`). So a beat's sums are what `hw.formal_step_sums` computes.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hw.formal_arithmetic import Diagram
from hw.formal_control import Control, OtherMachine
from hw.formal_structure import StreamNets, part_nets
from hw.geometry import Geometry
from hw.netlist import Netlist
from hw.terms import adder_ranks


@dataclass(frozen=True)
class SteppedNets:
    """The registers of a projection in steps, by name.

    Attributes:
        ports: its ports.
        busy, complete: one register each.
        step: the number of the step.
        valids, lasts: of the stages, the first stage first.
        features: the shift registers of window and parities.
        so_far, totals: for every weight of a beat.
        cycles: C.
    """

    ports: StreamNets
    busy: int
    complete: int
    step: tuple[int, ...]
    valids: tuple[int, ...]
    lasts: tuple[int, ...]
    features: tuple[int, ...]
    so_far: tuple[tuple[int, ...], ...]
    totals: tuple[tuple[int, ...], ...]
    cycles: int

    @property
    def control(self) -> list[int]:
        """Everything that decides when something moves; inputs too."""
        stages = [q for pair in zip(self.valids, self.lasts, strict=True) for q in pair]
        ends = [self.ports.o_ready, self.complete, *reversed(stages), self.busy, *self.step]
        return [*ends, *self.ports.i_valids, self.ports.reset]


def stepped_nets(netlist: Netlist, geometry: Geometry, part: str) -> SteppedNets:
    """The registers of the projection named `part`."""

    def named(name: str) -> tuple[int, ...]:
        return netlist.signal(f"{part}.{name}")

    def held(name: str) -> tuple[int, ...]:  # bits that nothing reads are none
        return tuple(sorted({q for q in named(name) if q in netlist.registers}))

    code, cycles = geometry.code, geometry.architecture.cycles
    stages = range(1 + adder_ranks(code, geometry.architecture))
    places = [f"{lane}_{i}" for lane in range(geometry.lanes) for i in range(code.group)]
    parities = [f"parities_{place}" for place in places if code.parities]
    features = {q for name in ("window", *parities) for q in held(name)}
    return SteppedNets(
        part_nets(netlist, part),
        named("busy")[0],
        named("complete")[0],
        named("step"),
        tuple(named(f"valid_{s}")[0] for s in stages),
        tuple(named(f"last_{s}")[0] for s in stages),
        tuple(sorted(features)),
        tuple(held(f"so_far_{place}") for place in places),
        tuple(held(f"total_{place}") for place in places),
        cycles,
    )


class Reference:
    """The machine's conditions as diagrams over its control."""

    def __init__(self, control: Control, nets: SteppedNets) -> None:
        self.control, self.nets = control, nets

        def of(net: int) -> Diagram:
            return control.of(net, "control")

        self.busy, self.complete = of(nets.busy), of(nets.complete)
        self.valids, self.lasts = [of(q) for q in nets.valids], [of(q) for q in nets.lasts]
        self.ready, self.source = of(nets.ports.o_ready), of(nets.ports.i_valids[0])
        self.running = ~of(nets.ports.reset)
        self.closes = control.number(nets.step, nets.cycles - 1)
        self.free = ~self.lasts[-1] | ~self.complete | self.ready
        move = self.free
        self.moves: list[Diagram] = []
        for valid in reversed(self.valids):
            move = ~valid | move
            self.moves.insert(0, move)
        self.issued = self.busy & self.moves[0]
        self.accepts = ~self.busy | (self.closes & self.moves[0])
        self.taken = self.accepts & self.source
        self.adds = self.valids[-1] & self.free
        self.completes = self.adds & self.lasts[-1]

    @cached_property
    def modes(self) -> dict[str, dict[int, bool]]:
        """Values of the control, one choice for each of what features and sums can do."""
        wanted = {
            "load": self.taken,
            "shift": self.issued & ~self.taken,
            "add": self.adds & ~self.completes & self.running,
            "end": self.completes & self.running,
        }
        return {name: self._pick(condition) for name, condition in wanted.items()}

    def _pick(self, condition: Diagram) -> dict[int, bool]:
        chosen = self.control.manager.pick(condition)
        return {net: bool(chosen.get(f"n{net}", False)) for net in self.control.leaves}


def check_steps(netlist: Netlist, nets: SteppedNets) -> int:
    """Show that a netlist is the machine above.

    Returns:
        n, the number of stages.

    Raises:
        OtherMachine: it is something else; the message names the register or signal.
    """
    control = Control(netlist, nets.control)
    reference = Reference(control, nets)
    _check_control(control, reference, nets)
    _check_features(netlist, nets)
    last: set[int] = set()
    for so_far, total in zip(nets.so_far, nets.totals, strict=True):
        last |= _check_sum(netlist, nets, so_far, total)
    _check_stages(netlist, nets, control, reference.moves, last)
    stray = netlist.sources(nets.ports.o_payload, lambda net: False)
    stray -= {q for total in nets.totals for q in total}
    if stray:
        raise OtherMachine(f"{netlist.name_of(min(stray))} reaches the payload past the totals")
    return len(nets.valids)


def _check_control(control: Control, is_: Reference, nets: SteppedNets) -> None:
    ite, run = control.manager.ite, is_.running
    rules = [
        (nets.busy, ite(is_.accepts, is_.source, is_.busy), "busy"),
        (nets.complete, is_.completes | (is_.complete & ~is_.ready), "complete"),
    ]
    carry = control.manager.true
    for n, q in enumerate(nets.step):
        bit = control.leaves[q]
        following = control.manager.apply("xor", bit, carry) & ~is_.closes
        carry &= bit
        rules.append((q, ite(is_.issued, following, bit), f"bit {n} of step"))
    valids, lasts = [is_.busy, *is_.valids], [is_.closes, *is_.lasts]
    for s, move in enumerate(is_.moves):
        rules.append((nets.valids[s], ite(move, valids[s], valids[s + 1]), f"valid bit {s}"))
        rules.append((nets.lasts[s], ite(move, lasts[s], lasts[s + 1]), f"last bit {s}"))
    for q, after, what in rules:
        control.check_register(q, run & after, 0, what)
    if control.of(nets.ports.i_ready, "the input's ready") != is_.accepts:
        raise OtherMachine("the input's ready is not that the features may be replaced")
    if nets.ports.o_valid != nets.complete:
        raise OtherMachine("the output's valid is not that a beat is complete")


def _check_features(netlist: Netlist, nets: SteppedNets) -> None:
    control = Control(netlist, [*nets.control, *nets.ports.i_payload, *nets.features])
    reference = Reference(control, nets)
    for q in nets.features:
        what = netlist.name_of(q)
        after = control.after(q, what)
        loaded = _in_mode(control, after, reference.modes["load"], nets.ports.i_payload, what)
        shifted = _in_mode(control, after, reference.modes["shift"], nets.features, what)
        held = control.manager.ite(reference.issued, shifted, control.leaves[q])
        if after != control.manager.ite(reference.taken, loaded, held):
            raise OtherMachine(f"{what} is not loaded where a beat is taken, else shifted")


def _check_sum(
    netlist: Netlist, nets: SteppedNets, so_far: tuple[int, ...], total: tuple[int, ...]
) -> set[int]:
    """Check one weight's two registers; returns the last stage's that they add."""
    parts = added_registers(netlist, nets, so_far, total)
    data: list[int] = []
    for n in range(max(len(so_far), len(parts))):  # operands interleaved: small adders
        data += [*so_far[n : n + 1], *parts[n : n + 1]]
    control = Control(netlist, [*nets.control, *data, *total])
    reference = Reference(control, nets)
    ite = control.manager.ite
    for q in so_far:
        what = netlist.name_of(q)
        after = control.after(q, what)
        sum_ = _in_mode(control, after, reference.modes["add"], data, what)
        kept = ite(reference.adds, sum_, control.leaves[q])
        control.check_register(q, reference.running & ~reference.completes & kept, 0, what)
    for q in total:
        what = netlist.name_of(q)
        after = control.after(q, what)
        sum_ = _in_mode(control, after, reference.modes["end"], data, what)
        if after != ite(reference.completes, sum_, control.leaves[q]):
            raise OtherMachine(f"{what} is not replaced where a beat is complete, else kept")
    return set(parts)


def added_registers(
    netlist: Netlist, nets: SteppedNets, so_far: tuple[int, ...], total: tuple[int, ...]
) -> list[int]:
    """The last stage's registers that one weight adds to its sum so far."""
    known = {*nets.control, *so_far, *total}
    inputs = [netlist.registers[q].d for q in (*so_far, *total)]
    return sorted(netlist.sources(inputs, known.__contains__) - known)


def _check_stages(
    netlist: Netlist, nets: SteppedNets, control: Control, moves: list[Diagram], found: set[int]
) -> None:
    """Check the data of the stages, back from the last one's registers."""
    ends = {*nets.features, *nets.step}
    for s in reversed(range(len(moves))):
        for q in sorted(found):
            what = netlist.name_of(q)
            if control.enable(q, what) != moves[s]:
                raise OtherMachine(f"{what} does not move with stage {s}")
        found = netlist.sources([netlist.registers[q].d for q in found], ends.__contains__)
        if s and not found.isdisjoint(ends):
            raise OtherMachine(f"{netlist.name_of(min(found & ends))} passes a stage")
    if not found <= ends:
        raise OtherMachine(f"{netlist.name_of(min(found - ends))} decides a table")


def _in_mode(
    control: Control, function: Diagram, mode: dict[int, bool], allowed: Any, what: str
) -> Diagram:
    """A register's next value with the control fixed, which `allowed` nets alone may decide."""
    fixed = {f"n{net}": value for net, value in mode.items()}
    free = {f"n{net}" for net in allowed}
    chosen = {name: value for name, value in fixed.items() if name not in free}
    reduced = control.manager.let(chosen, function)
    stray = control.manager.support(reduced) - free
    if stray:
        net = int(min(stray)[1:])
        raise OtherMachine(f"{what} depends on {control.netlist.name_of(net)}")
    return reduced
