"""Proof that a projection in steps gives the code's sums, for every window.

Features are loaded with a window of variables, then the netlist's own functions are applied step
after step, with the registers of the stages read as wires; `hw.formal_steps` shows that this is
what the netlist does.
"""

from collections.abc import Sequence
from typing import Any

from hw.formal_arithmetic import (
    Diagram,
    Refutation,
    Vector,
    compare_weight,
    diagrams,
    make_manager,
    window_variables,
)
from hw.formal_control import Control, OtherMachine
from hw.formal_steps import Reference, SteppedNets, added_registers
from hw.geometry import Geometry
from hw.netlist import Netlist
from hw.output import ACC_WIDTH


def prove_steps(
    netlist: Netlist, nets: SteppedNets, geometry: Geometry
) -> tuple[Refutation | None, int]:
    """Compare every weight of a beat with the code, for every window, step after step.

    Returns:
        The first weight that is wrong for some window, or None; and the nodes of all diagrams.

    Raises:
        OtherMachine: the registers do not take what the machine above would.
    """
    modes = Reference(Control(netlist, nets.control), nets).modes
    total = 0
    for n in range(len(nets.totals)):
        lane, row = divmod(n, geometry.code.group)
        found, nodes = _prove_weight(netlist, nets, geometry, modes, n)
        total += nodes
        if found is not None:
            window, expected, got = found
            return Refutation(lane, row, window, expected, got), total
    return None, total


def _prove_weight(
    netlist: Netlist,
    nets: SteppedNets,
    geometry: Geometry,
    modes: dict[str, dict[int, bool]],
    n: int,
) -> tuple[tuple[int, int, int] | None, int]:
    code = geometry.code
    lane, row = divmod(n, code.group)
    manager = make_manager()
    bits = window_variables(manager, nets.ports.i_payload)
    payload = dict(zip(nets.ports.i_payload, bits, strict=True))
    features = dict.fromkeys(nets.features, manager.false)
    features = _next(manager, netlist, nets.features, modes["load"], {**payload, **features})
    so_far = dict.fromkeys(nets.so_far[n], manager.false)
    ends = dict.fromkeys(nets.totals[n], manager.false)
    parts = added_registers(netlist, nets, nets.so_far[n], nets.totals[n])
    for s in range(nets.cycles):
        step = {q: _constant(manager, s >> k & 1) for k, q in enumerate(nets.step)}
        values = diagrams(manager, netlist, parts, {**features, **step}, through_registers=True)
        data = {**ends, **so_far, **dict(zip(parts, values, strict=True))}
        if s < nets.cycles - 1:
            so_far = _next(manager, netlist, list(so_far), modes["add"], data)
            features = _next(manager, netlist, nets.features, modes["shift"], payload | features)
        else:
            ends = _next(manager, netlist, list(ends), modes["end"], data)
    outputs = nets.ports.o_payload[n * ACC_WIDTH : (n + 1) * ACC_WIDTH]
    got: Vector = diagrams(manager, netlist, outputs, ends)
    start = lane * code.lifted
    own = bits[start : start + code.lifted + code.overlap]
    return compare_weight(manager, bits, own, got, code, row), len(manager)


def _next(
    manager: Any,
    netlist: Netlist,
    registers: Sequence[int],
    mode: dict[int, bool],
    data: dict[int, Diagram],
) -> dict[int, Diagram]:
    """What registers hold after an edge at which the control has the values of `mode`."""
    leaves = {**{net: _constant(manager, value) for net, value in mode.items()}, **data}
    enables = [netlist.registers[q].enable for q in registers]
    for q, enabled in zip(registers, diagrams(manager, netlist, enables, leaves), strict=True):
        if enabled != manager.true:
            raise OtherMachine(f"{netlist.name_of(q)} stays where it should move")
    inputs = [netlist.registers[q].d for q in registers]
    return dict(zip(registers, diagrams(manager, netlist, inputs, leaves), strict=True))


def _constant(manager: Any, value: int | bool) -> Diagram:
    return manager.true if value else manager.false
