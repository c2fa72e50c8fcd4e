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

from hw.formal_control import Control, OtherMachine
from hw.netlist import Netlist


@dataclass(frozen=True)
class StreamNets:
    """The nets of a chain's ports.

    Attributes:
        i_valids, i_ready, i_payload: of its input; where other streams join, their valids and
            payloads follow its own, and it is ready where they are valid too.
        o_valid, o_ready, o_payload: of its output.
        reset: active high.
    """

    i_valids: tuple[int, ...]
    i_ready: int
    i_payload: tuple[int, ...]
    o_valid: int
    o_ready: int
    o_payload: tuple[int, ...]
    reset: int


def part_nets(netlist: Netlist, part: str) -> StreamNets:
    """The ports of one part within the netlist of a whole decoder, by the part's name."""

    def one(name: str) -> int:
        (net,) = netlist.signal(f"{part}.{name}")
        return net

    return StreamNets(
        (one("i__valid"),),
        one("i__ready"),
        netlist.signal(f"{part}.i__payload"),
        one("o__valid"),
        one("o__ready"),
        netlist.signal(f"{part}.o__payload"),
        netlist.inputs["rst"][0],
    )


def check_chain(netlist: Netlist, ports: StreamNets) -> int:
    """Show that a netlist between `ports` is a chain of stages.

    Returns:
        n, the number of stages.

    Raises:
        OtherMachine: it is something else; the message names the register or signal.
    """
    stages = data_stages(netlist, ports)
    valids = valid_chain(netlist, ports)
    if stages and len(stages) != len(valids):  # sums that are all zero need no registers
        raise OtherMachine(f"{len(stages)} stages of data, but {len(valids)} of valid bits")
    control = Control(netlist, [ports.o_ready, *reversed(valids), *ports.i_valids, ports.reset])
    own, *others = (control.of(net, "the input's valid") for net in ports.i_valids)
    joined = control.manager.true
    for other in others:
        joined &= other
    befores = [own & joined, *(control.leaves[q] for q in valids)]
    running = ~control.of(ports.reset, "reset")

    move = control.of(ports.o_ready, "the output's ready")
    for stage in reversed(range(len(valids))):
        q = valids[stage]
        valid = control.leaves[q]
        move = ~valid | move
        after = running & control.manager.ite(move, befores[stage], valid)
        control.check_register(q, after, 0, f"valid bit {stage}")
        for held in sorted(stages[stage]) if stages else ():
            name = netlist.name_of(held)
            if control.enable(held, name) != move:
                raise OtherMachine(f"{name} does not move with stage {stage}")
    if control.of(ports.i_ready, "the input's ready") != move & joined:
        raise OtherMachine("the input's ready is not that the first stage moves")
    return len(valids)


def data_stages(netlist: Netlist, ports: StreamNets) -> list[set[int]]:
    """Registers between the payloads, stage by stage, the first stage first.

    Raises:
        OtherMachine: paths from the input's payload take different numbers of registers.
    """
    window = frozenset(ports.i_payload)
    stages: list[set[int]] = []
    found = netlist.sources(ports.o_payload, window.__contains__)
    while found and not found <= window:
        strange = [net for net in found if net not in netlist.registers]
        if strange:
            raise OtherMachine(f"{netlist.name_of(min(strange))} reaches the payload past a stage")
        stages.insert(0, found)
        if len(stages) > len(netlist.registers):
            raise OtherMachine("registers of the data feed each other in a circle")
        found = netlist.sources([netlist.registers[q].d for q in found], window.__contains__)
    if len(set().union(*stages)) != sum(map(len, stages)):
        raise OtherMachine("a register of the data belongs to two stages")
    return stages


def valid_chain(netlist: Netlist, ports: StreamNets) -> list[int]:
    """Registers from the output's valid back to the input's, the first stage first."""
    found: list[int] = []
    ends = {*ports.i_valids, ports.o_ready}
    net = ports.o_valid
    while (net,) != ports.i_valids:
        if net not in netlist.registers or net in found:
            raise OtherMachine(f"{netlist.name_of(net)} is no register on the way of valid")
        found.insert(0, net)
        register = netlist.registers[net]
        others = netlist.sources([register.d], ends.__contains__)
        behind = others - {net, ports.reset, ports.o_ready} - set(found)
        if behind == set(ports.i_valids):
            break
        if len(behind) != 1:
            raise OtherMachine(f"{netlist.name_of(net)} follows {len(behind)} signals, not one")
        (net,) = behind
    return found


def check_factors(netlist: Netlist, ports: StreamNets, scale_ready: int, beats: int) -> None:
    """Show when a chain that multipliers join takes them: with a stream's last beat.

    Args:
        netlist: holds the rest.
        ports: of the chain, its own valid first, then that of the multipliers.
        scale_ready: what their stream is told.
        beats: of a stream; 1 where every beat takes multipliers of its own.

    Raises:
        OtherMachine: the register or signal that differs is named.
    """
    count = netlist.signal("requantise.beats_left") if beats > 1 else ()
    valids = valid_chain(netlist, ports)
    ends = [ports.o_ready, *reversed(valids), *ports.i_valids, *count, ports.reset]
    control = Control(netlist, ends)
    move = control.of(ports.o_ready, "the output's ready")
    for q in reversed(valids):
        move = ~control.leaves[q] | move
    own, factor = (control.of(net, "a valid") for net in ports.i_valids)
    if count:
        check_countdown(control, count, own & factor & move, ports.reset, beats)
    if control.of(scale_ready, "the multipliers' ready") != move & own & control.number(count, 0):
        raise OtherMachine("multipliers are not taken with a stream's last beat")


def check_countdown(
    control: Control, count: Sequence[int], step: Any, reset: int, states: int
) -> None:
    """Show that registers count down from `states` - 1 to 0 and over, at every `step`.

    Raises:
        OtherMachine: a bit of them does not.
    """
    empty = control.number(count, 0)
    ite, borrow = control.manager.ite, control.manager.true
    running = ~control.of(reset, "reset")
    for n, q in enumerate(count):
        bit = control.leaves[q]
        first = control.manager.true if states - 1 >> n & 1 else control.manager.false
        less = control.manager.apply("xor", bit, borrow)
        borrow &= ~bit
        following = ite(running, ite(step, ite(empty, first, less), bit), first)
        control.check_register(q, following, states - 1 >> n & 1, f"bit {n} of the beats left")


_STATED = {("scale__ready", "o__ready"), ("i__ready", "bus__valid")}


def paths_within_a_cycle(netlist: Netlist) -> list[str]:
    """Promises that a decoder's ports break: one sentence each; none where all are kept.

    Outputs must come from registers alone, so that neither ready depends on a valid or ready, and
    neither valid on a ready; but for the paths that the protocol states, which only streams beside
    the main one have.

    Raises:
        CombinationalLoop: a net depends on itself.
    """
    inputs = {net: name for name, nets in netlist.inputs.items() for net in nets}
    broken = [
        f"{output} depends on {inputs[net]} within a cycle"
        for output, nets in netlist.outputs.items()
        for net in sorted(netlist.sources(nets, inputs.__contains__) & inputs.keys())
        if (output, inputs[net]) not in _STATED
    ]
    every = [r.d for r in netlist.registers.values()]
    every += [r.enable for r in netlist.registers.values()]
    netlist.ordered_cone(every, inputs.__contains__)
    return sorted(set(broken))
