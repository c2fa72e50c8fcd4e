"""What a loadable decoder's netlist shows: its registers, rows and pipeline, and sums once loaded.

A write replaces the bits at its address and nothing else, only between streams; so after a code's
writes (`Capacity.writes`) every register has the code's value, and keeps it while a stream is
inside. With the registers so fixed, the weights are compared with the code for every window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from algo.code import LiftCode
from hw.capacity import (
    LAST_ROW,
    MASKS,
    OVERLAP,
    PARITY_COLUMN,
    ROW,
    SHIFTS,
    STREAM_BITS,
    TAPS,
    WEIGHTS,
    WINDOW,
    Capacity,
)  # fmt: skip
from hw.formal_arithmetic import Refutation, compare_weight, diagrams, make_manager
from hw.formal_arithmetic import window_variables as new_window
from hw.formal_control import Control, OtherMachine
from hw.formal_structure import StreamNets, check_chain, valid_chain
from hw.netlist import TRUE, Netlist

_NUMBERS = {
    STREAM_BITS: "stream_bits", WEIGHTS: "weights", WINDOW: "window", OVERLAP: "overlap",
}  # fmt: skip
_WORD = 32
_TAP = 8


@dataclass(frozen=True)
class LoadableNets:
    """A loadable decoder's registers and pipeline.

    Attributes:
        places: by address the registers that a write to it replaces, least significant first.
        row: number of the weight in its group.
        chain: the pipeline behind the buffer; its payload is all that a weight is made of.
        valids: of its stages.
    """

    places: dict[int, tuple[int, ...]]
    row: tuple[int, ...]
    chain: StreamNets
    valids: tuple[int, ...]


def loadable_nets(netlist: Netlist, capacity: Capacity) -> LoadableNets:
    """The registers by name; `capacity` says how many there are.

    Raises:
        OtherMachine: the pipeline's valid bits are no chain.
    """
    places = {at: netlist.signal(f"register_{at}") for at in _NUMBERS}
    row: tuple[int, ...] = ()
    if capacity.group > 1:  # a single row needs no number
        places[LAST_ROW] = netlist.signal("last_row")
        row = netlist.signal("row")
    places |= {SHIFTS + i: netlist.signal(f"shift_{i}") for i in range(capacity.group)}
    places |= {MASKS + p: netlist.signal(f"mask_{p}") for p in range(capacity.parities)}
    columns = [*range(capacity.window), *(PARITY_COLUMN + p for p in range(capacity.parities))]
    for i in range(capacity.group):
        cells = netlist.signal(f"taps[{i}]")
        for n, column in enumerate(columns):
            places[TAPS + ROW * i + column] = cells[n * _TAP : (n + 1) * _TAP]
    held = [q for at, nets in places.items() if at >= MASKS for q in nets]
    (valid,), (ready,) = (netlist.signal(f"buffer.o__{w}") for w in ("valid", "ready"))
    chain = StreamNets(
        (valid,),
        ready,
        (*netlist.signal("buffer.o__payload"), *row, *held),
        netlist.outputs["o__valid"][0],
        netlist.inputs["o__ready"][0],
        netlist.outputs["o__payload"],
        netlist.inputs["rst"][0],
    )
    return LoadableNets(places, row, chain, tuple(valid_chain(netlist, chain)))


def check_load(netlist: Netlist, nets: LoadableNets) -> int:
    """Show what every write does, and that there is none while a stream is inside.

    Returns:
        The bits that can be written.

    Raises:
        OtherMachine: the register that differs is named.
    """
    (valid,), payload = netlist.inputs["bus__valid"], netlist.inputs["bus__payload"]
    (ready,) = netlist.outputs["bus__ready"]
    (idle,) = netlist.signal("buffer.idle")
    quiet = Control(netlist, [idle, *nets.valids])
    expected = quiet.of(idle, "idle")
    for q in nets.valids:
        expected &= ~quiet.leaves[q]
    if quiet.of(ready, "the bus' ready") != expected:
        raise OtherMachine("the bus is not ready just where no stream is inside")
    data, address = payload[:_WORD], payload[_WORD:]
    bits = 0
    for at, registers in nets.places.items():
        held = [q for q in registers if q > TRUE]
        control = Control(netlist, [ready, valid, *reversed(address), *data, *held])
        writes = control.of(ready, "ready") & control.of(valid, "valid")
        writes &= control.number(address, at)
        for n, q in enumerate(registers):
            what = f"bit {n} of address {at:#x}"
            if q not in netlist.registers:
                raise OtherMachine(f"{what} is no register")
            new = control.of(data[n], "data")
            if control.after(q, what) != control.manager.ite(writes, new, control.leaves[q]):
                raise OtherMachine(f"{what} is not replaced by writes to it, and by no other")
            bits += 1
    return bits


def check_rows(netlist: Netlist, nets: LoadableNets) -> None:
    """Show that rows of taps and shifts follow each other with the windows.

    Raises:
        OtherMachine: the register or signal that differs is named.
    """
    last, chain = nets.places.get(LAST_ROW, ()), nets.chain
    pairs = [q for pair in zip(nets.row, last, strict=True) for q in pair]
    ends = [chain.o_ready, *reversed(nets.valids), *chain.i_valids, *pairs, chain.reset]
    control = Control(netlist, ends)
    move, same = control.of(chain.o_ready, "ready"), control.manager.true
    for q in reversed(nets.valids):
        move = ~control.leaves[q] | move
    issued = control.of(chain.i_valids[0], "valid") & move
    for q, end in zip(nets.row, last, strict=True):
        same &= ~control.manager.apply("xor", control.leaves[q], control.leaves[end])
    carry, running = control.manager.true, ~control.of(chain.reset, "reset")
    for n, q in enumerate(nets.row):
        bit = control.leaves[q]
        following = control.manager.apply("xor", bit, carry) & ~same
        carry &= bit
        after = running & control.manager.ite(issued, following, bit)
        control.check_register(q, after, 0, f"bit {n} of row")
    shifts = [nets.places[at] for at in sorted(nets.places) if SHIFTS <= at < MASKS]
    control = Control(netlist, [*nets.row, *(q for shift in shifts for q in shift)])
    for i, shift in enumerate(shifts):
        chosen = {f"n{q}": bool(i >> n & 1) for n, q in enumerate(nets.row)}
        for n, (net, q) in enumerate(zip(netlist.signal("buffer.shift"), shift, strict=True)):
            value = control.manager.let(chosen, control.of(net, "the shift"))
            if value != control.leaves[q]:
                raise OtherMachine(f"bit {n} of the shift is not that of row {i}")


def check_parts(netlist: Netlist, nets: LoadableNets) -> int:
    """Show that pipeline, buffer, registers and ports are connected, with one clock and reset.

    Returns:
        The pipeline's stages.

    Raises:
        OtherMachine: the connection that is missing is named.
    """
    wires = [(f"i__{w}", f"buffer.i__{w}") for w in ("valid", "ready", "payload")]
    wires += [("bus__valid", "buffer.hold"), ("rst", "buffer.rst")]
    wires += [(f"register_{at}", f"buffer.{name}") for at, name in _NUMBERS.items()]
    for one, other in wires:
        if netlist.signal(one) != netlist.signal(other):
            raise OtherMachine(f"{one} is not {other}")
    if (netlist.clock,) != netlist.inputs["clk"]:
        raise OtherMachine("the registers' clock is not the port clk")
    return check_chain(netlist, nets.chain)


def prove_loaded(
    netlist: Netlist, nets: LoadableNets, capacity: Capacity, code: LiftCode, groups: int
) -> tuple[Refutation | None, int]:
    """Compare every weight with the code once it is loaded, for every window.

    Registers have the values that the code's writes leave there; those that no write reaches may
    have any.

    Returns:
        The first weight that is wrong for some window, or None; and the nodes of all diagrams.
    """
    values = dict(capacity.writes(code, groups))
    window, total = netlist.signal("buffer.o__payload"), 0
    for i in range(code.group):
        manager = make_manager()
        bits = new_window(manager, window)
        leaves = dict(zip(window, bits, strict=True))
        for at, registers in nets.places.items():
            for n, q in enumerate(registers):
                if at in values:
                    leaves[q] = manager.true if values[at] >> n & 1 else manager.false
                else:
                    manager.declare(f"free{q}")
                    leaves[q] = manager.var(f"free{q}")
        leaves |= _constants(manager, nets.row, i)
        got = diagrams(manager, netlist, nets.chain.o_payload, leaves, through_registers=True)
        span = code.lifted + code.overlap
        own = _within(manager, bits, code.starts[i], span)
        found = compare_weight(manager, bits, own, got, code, i)
        total += len(manager)
        if found is not None:
            return Refutation(0, i, *found), total
    return None, total


def _constants(manager: object, nets: Sequence[int], value: int) -> dict[int, object]:
    constant = (manager.false, manager.true)  # type: ignore[attr-defined]
    return {net: constant[value >> n & 1] for n, net in enumerate(nets)}


def _within(manager: object, bits: list[object], start: int, span: int) -> list[object]:
    """A group's D + V bits, of which a weight's window is those from `start` on.

    The others have no tap, so they may have any value.
    """
    outside = manager.false  # type: ignore[attr-defined]
    return [bits[j - start] if 0 <= j - start < len(bits) else outside for j in range(span)]
