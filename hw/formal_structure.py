"""What a netlist's wiring shows by itself: a pipeline's stages, and the paths within a cycle.

A chain of n stages is this machine and nothing else, for every stage s::

    move[s]  = ~valid[s] | move[s + 1]          move[n] = the output's ready
    valid[s] = reset ? 0 : move[s] ? valid[s - 1] : valid[s]      valid[-1] = the input's valid
    data[s]  = move[s] ? f_s(data[s - 1]) : data[s]               data[-1] = the input's payload

with ``ready = move[0]`` at its input and ``valid[n - 1]``, ``g(data[n - 1])`` at its output. Data
then never leave the valid bit that they came with, so whatever comes out is ``g(..f_0(payload))``
of a payload that was taken: registers may be read as wires. That such a chain loses, doubles and
reorders nothing is proved by induction (`hw.formal_chain`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hw.formal_arithmetic import diagrams, make_manager
from hw.netlist import TRUE, Netlist


@dataclass(frozen=True)
class StreamNets:
    """The nets of a chain's ports.

    Attributes:
        i_valid, i_ready, i_payload: of its input.
        o_valid, o_ready, o_payload: of its output.
        reset: active high.
    """

    i_valid: int
    i_ready: int
    i_payload: tuple[int, ...]
    o_valid: int
    o_ready: int
    o_payload: tuple[int, ...]
    reset: int


class NotAChain(Exception):
    """The netlist is not the machine above; says what differs."""


def projection_nets(netlist: Netlist, overlap: int) -> StreamNets:
    """The projection's ports within the netlist of a whole decoder; `overlap` is its code's."""

    def one(name: str) -> int:
        (net,) = netlist.signal(name)
        return net

    return StreamNets(
        one("projection.i__valid"),
        one("window.o__ready" if overlap else "gearbox.o__ready"),  # what the part before sees
        netlist.signal("projection.i__payload"),
        netlist.outputs["o__valid"][0],
        netlist.inputs["o__ready"][0],
        netlist.outputs["o__payload"],
        one("rst"),
    )


def check_chain(netlist: Netlist, ports: StreamNets) -> int:
    """Show that a netlist between `ports` is a chain of stages.

    Returns:
        n, the number of stages.

    Raises:
        NotAChain: it is something else; the message names the register or signal.
    """
    stages = data_stages(netlist, ports)
    valids = _valid_chain(netlist, ports)
    if stages and len(stages) != len(valids):  # sums that are all zero need no registers
        raise NotAChain(f"{len(stages)} stages of data, but {len(valids)} of valid bits")
    manager, leaves = _control_variables(netlist, ports, valids)

    def control(net: int, what: str) -> Any:
        stray = netlist.sources([net], leaves.__contains__) - leaves.keys()
        if stray:
            raise NotAChain(f"{what} depends on {netlist.name_of(min(stray))}")
        return diagrams(manager, netlist, [net], leaves)[0]

    move = leaves[ports.o_ready]
    for stage in reversed(range(len(valids))):
        register = netlist.registers[valids[stage]]
        valid = leaves[register.q]
        move = ~valid | move
        before = leaves[valids[stage - 1] if stage else ports.i_valid]
        enable = control(register.enable, f"when valid bit {stage} moves")
        taken = control(register.d, f"valid bit {stage}")
        after = manager.ite(enable, taken, valid)
        if after != ~leaves[ports.reset] & manager.ite(move, before, valid):
            raise NotAChain(f"valid bit {stage} is not the stage's before it, moved with it")
        if register.init != 0:
            raise NotAChain(f"valid bit {stage} starts as {register.init}, not as 0")
        for q in sorted(stages[stage]) if stages else ():
            held = netlist.registers[q]
            if control(held.enable, f"when {netlist.name_of(q)} moves") != move:
                raise NotAChain(f"{netlist.name_of(q)} does not move with stage {stage}")
    if control(ports.i_ready, "the input's ready") != move:
        raise NotAChain("the input's ready is not that the first stage moves")
    return len(valids)


def data_stages(netlist: Netlist, ports: StreamNets) -> list[set[int]]:
    """Registers between the payloads, stage by stage, the first stage first.

    Raises:
        NotAChain: paths from the input's payload take different numbers of registers.
    """
    window = frozenset(ports.i_payload)
    stages: list[set[int]] = []
    found = netlist.sources(ports.o_payload, window.__contains__)
    while found and not found <= window:
        strange = [net for net in found if net not in netlist.registers]
        if strange:
            raise NotAChain(f"{netlist.name_of(min(strange))} reaches the payload past a stage")
        stages.insert(0, found)
        if len(stages) > len(netlist.registers):
            raise NotAChain("registers of the data feed each other in a circle")
        found = netlist.sources([netlist.registers[q].d for q in found], window.__contains__)
    if len(set().union(*stages)) != sum(map(len, stages)):
        raise NotAChain("a register of the data belongs to two stages")
    return stages


def _valid_chain(netlist: Netlist, ports: StreamNets) -> list[int]:
    """Registers from the output's valid back to the input's, the first stage first."""
    found: list[int] = []
    net = ports.o_valid
    while net != ports.i_valid:
        if net not in netlist.registers or net in found:
            raise NotAChain(f"{netlist.name_of(net)} is no register on the way of valid")
        found.insert(0, net)
        register = netlist.registers[net]
        others = netlist.sources([register.d], {ports.i_valid}.__contains__)
        behind = others - {net, ports.reset, ports.o_ready} - set(found)
        if len(behind) != 1:
            raise NotAChain(f"{netlist.name_of(net)} follows {len(behind)} signals, not one")
        (net,) = behind
    return found


def _control_variables(
    netlist: Netlist, ports: StreamNets, valids: Sequence[int]
) -> tuple[Any, dict[int, Any]]:
    manager = make_manager()
    nets = [ports.o_ready, *reversed(valids), ports.i_valid, ports.reset]
    manager.declare(*(f"c{net}" for net in nets))
    return manager, {net: manager.var(f"c{net}") for net in nets if net > TRUE}


def paths_within_a_cycle(netlist: Netlist) -> list[str]:
    """Promises that a decoder's ports break: one sentence each; none where all are kept.

    Outputs must come from registers alone, so that neither ready depends on a valid or ready, and
    neither valid on a ready.

    Raises:
        CombinationalLoop: a net depends on itself.
    """
    inputs = {net: name for name, nets in netlist.inputs.items() for net in nets}
    broken = [
        f"{output} depends on {inputs[net]} within a cycle"
        for output, nets in netlist.outputs.items()
        for net in sorted(netlist.sources(nets, inputs.__contains__) & inputs.keys())
    ]
    every = [r.d for r in netlist.registers.values()]
    every += [r.enable for r in netlist.registers.values()]
    netlist.ordered_cone(every, inputs.__contains__)
    return sorted(set(broken))
