"""How the parts of a decoder are connected, within its netlist."""

from itertools import pairwise

from hw.formal_control import Control, OtherMachine
from hw.formal_structure import StreamNets, check_chain, check_countdown, check_factors, part_nets
from hw.geometry import Geometry
from hw.netlist import Netlist
from hw.output import ACC_WIDTH


def core_name(geometry: Geometry) -> str:
    """The projection itself, within its credits where it has any."""
    return "projection.projection" if geometry.queued else "projection"


def finish_name(geometry: Geometry) -> str | None:
    """The part behind the projection; extended sums are wires."""
    if geometry.output.scale is not None:
        return "requantise"
    return "resize" if geometry.output.width < ACC_WIDTH else None


def check_wiring(netlist: Netlist, geometry: Geometry) -> str:
    """Show that the parts are connected to each other and the ports, and to one clock and reset.

    Returns:
        The parts in their order.

    Raises:
        OtherMachine: the connection that is missing is named.
    """
    finish = finish_name(geometry)
    parts = ["gearbox", *(["window"] if geometry.code.overlap else []), "projection"]
    parts += [finish] if finish else []
    ends = [("i", f"{parts[0]}.i"), *((f"{a}.o", f"{b}.i") for a, b in pairwise(parts))]
    if geometry.output.width <= ACC_WIDTH or finish:
        ends.append((f"{parts[-1]}.o", "o"))
    if geometry.output.scale is not None:
        ends.append(("scale", f"{finish}.scale"))
    wires = [(f"{a}__{w}", f"{b}__{w}") for a, b in ends for w in ("valid", "ready", "payload")]
    if geometry.output.width > ACC_WIDTH and not finish:  # its payload is for `width` to prove
        wires += [(f"{parts[-1]}.o__{w}", f"o__{w}") for w in ("valid", "ready")]
    for one, other in wires:
        if netlist.signal(one) != netlist.signal(other):
            raise OtherMachine(f"{one} is not {other}")
    if (netlist.clock,) != netlist.inputs["clk"]:
        raise OtherMachine("the registers' clock is not the port clk")
    for part in dict.fromkeys([*parts, core_name(geometry)]):
        if netlist.signal(f"{part}.rst") != netlist.inputs["rst"]:
            raise OtherMachine(f"the reset of {part} is not the port rst")
    return " to ".join(parts)


def check_finish(netlist: Netlist, geometry: Geometry) -> int:
    """Show that the last stage is a chain, and where it scales, when it takes multipliers.

    Returns:
        Its stages, 0 where there is none.

    Raises:
        OtherMachine: it is something else.
    """
    finish = finish_name(geometry)
    if finish is None:
        return 0
    own = part_nets(netlist, finish)
    if geometry.output.scale is None:
        return check_chain(netlist, own)
    (valid,), (ready,) = (netlist.signal(f"{finish}.scale__{w}") for w in ("valid", "ready"))
    joined = StreamNets(
        (*own.i_valids, valid),
        own.i_ready,
        own.i_payload + netlist.signal(f"{finish}.scale__payload"),
        own.o_valid, own.o_ready, own.o_payload, own.reset,
    )  # fmt: skip
    each = geometry.output.scale.axis == "out"
    check_factors(netlist, joined, ready, 1 if each else geometry.beats_out)
    return check_chain(netlist, joined)


def check_last(netlist: Netlist, geometry: Geometry) -> None:
    """Show that the port ``last`` is high while the beat at ``o`` is the last of its stream.

    Raises:
        OtherMachine: it is something else.
    """
    beats = geometry.beats_out
    count = netlist.signal("beats_left") if beats > 1 else ()
    valid, ready = netlist.outputs["o__valid"][0], netlist.inputs["o__ready"][0]
    reset = netlist.inputs["rst"][0]
    control = Control(netlist, [valid, ready, *count, reset])
    if count:
        given = control.of(valid, "valid") & control.of(ready, "ready")
        check_countdown(control, count, given, reset, beats)
    if control.of(netlist.outputs["last"][0], "last") != control.number(count, 0):
        raise OtherMachine("last is not that no beats of the stream are left")
