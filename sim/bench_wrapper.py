"""A Verilog wrapper that gives a foreign decoder the ports our bench drives.

Polarity of the reset, missing handshakes, orders of bits and of weights are put right here, so that
one bench body serves every protocol.
"""

from collections.abc import Mapping

from algo.errors import LiftError
from sim.beat_layout import BeatLayout
from sim.design_ports import Port
from sim.port_map import HANDSHAKES, PortMap

WRAPPER = "liftquant_bench"
WRAPPER_PORTS = {
    port: port
    for port in (
        "clk", "rst", "i_valid", "i_ready", "i_payload", "o_valid", "o_ready", "o_payload",
    )
}  # fmt: skip


def check_ports(layout: BeatLayout, found: Mapping[str, Port], top: str) -> None:
    """Compare a map with the ports a design has.

    Raises:
        LiftError: a port is missing, has another direction or width, is named twice, or an input
            port is not named at all; the message names the map's field and lists the ports.
    """
    wanted = _wanted(layout)
    listing = f"the ports of {top} are: {', '.join(map(str, found.values()))}"
    users: dict[str, str] = {}
    for field, (name, direction, width, meaning) in wanted.items():
        port = found.get(name)
        if port is None:
            raise LiftError(f"{field} = {name!r}: {top} has no such port; {listing}")
        if port.direction != direction:
            raise LiftError(
                f"{field} = {name!r} must be an {direction} of {top}, but is an {port.direction}; "
                f"{listing}"
            )
        if width is not None and port.width != width:
            raise LiftError(
                f"{field} = {name!r} has {_bits(port.width)}, but {meaning} takes {_bits(width)}; "
                f"{listing}"
            )
        if name in users:
            raise LiftError(f"{field} and {users[name]} both name port {name!r}; {listing}")
        users[name] = field
    for name, value in layout.ports.tie.items():
        if value.bit_length() > found[name].width:
            raise LiftError(f"tie.{name} = {value} does not fit {_bits(found[name].width)}")
    for port in found.values():
        if port.name not in users and port.direction != "output":
            raise LiftError(
                f"{port.direction} port {port.name} of {top} is not in the map; name it, or give "
                f"it a constant under [tie]; {listing}"
            )


def _wanted(layout: BeatLayout) -> dict[str, tuple[str, str, int | None, str]]:
    """By field of the map: port name, direction, width where it is known, and what it carries."""
    ports = layout.ports
    count = ports.output.weights
    weights = f"{count} weight{'s' * (count > 1)} of {_bits(ports.output.weight_bits)}"
    wanted: dict[str, tuple[str, str, int | None, str]] = {}
    if ports.clock is not None:
        wanted["clock"] = (ports.clock, "input", 1, "a clock")
    if ports.reset is not None:
        wanted["reset.port"] = (ports.reset.port, "input", 1, "a reset")
    wanted["input.payload"] = (
        ports.input.payload, "input", layout.input_bits, layout.input_means,
    )  # fmt: skip
    wanted["output.payload"] = (ports.output.payload, "output", layout.output_bits, weights)
    for signal in HANDSHAKES[ports.protocol]:
        towards = {"valid": ("input", "output"), "ready": ("output", "input")}[signal]
        for side, direction in zip(("input", "output"), towards, strict=True):
            name = getattr(getattr(ports, side), signal)
            wanted[f"{side}.{signal}"] = (name, direction, 1, signal)
    for name in ports.tie:
        wanted[f"tie.{name}"] = (name, "input", None, "a constant")
    return wanted


def _bits(width: int) -> str:
    return f"{width} bit{'s' * (width > 1)}"


def wrapper(layout: BeatLayout, found: Mapping[str, Port], top: str) -> str:
    """SystemVerilog of module `WRAPPER` around `top`, whose ports `check_ports` has approved.

    While ``i_valid`` is low the payload port carries the complement of ``i_payload``: a design must
    not look at it then.
    """
    ports = layout.ports
    i_bits, o_bits, width = layout.input_bits, layout.output_bits, ports.output.weight_bits
    connections = {
        ports.input.payload: "their_i",
        ports.output.payload: "their_o",
        **{n: f"{found[n].width}'h{value:x}" for n, value in ports.tie.items()},
    }
    if ports.clock is not None:
        connections[ports.clock] = "clk"
    if ports.reset is not None:
        connections[ports.reset.port] = "rst" if ports.reset.active == "high" else "~rst"
    signals = HANDSHAKES[ports.protocol]
    for side, bench in (("input", "i"), ("output", "o")):
        for signal in signals:
            connections[getattr(getattr(ports, side), signal)] = f"{bench}_{signal}"
    i_at = "k" if ports.input.first == "lsb" else f"{i_bits - 1} - k"
    last = ports.output.weights - 1
    o_at = "k" if ports.output.first == "lsb" else f"({last} - k)"
    pins = ",\n    ".join(f".{_escaped(port)}({net})" for port, net in connections.items())
    return f"""\
module {WRAPPER}(
  input clk, input rst,
  input i_valid, output i_ready, input [{i_bits - 1}:0] i_payload,
  output o_valid, input o_ready, output [{o_bits - 1}:0] o_payload
);
  wire [{i_bits - 1}:0] sent = i_valid ? i_payload : ~i_payload;
  wire [{i_bits - 1}:0] their_i;
  wire [{o_bits - 1}:0] their_o;
  genvar k;
  generate
    for (k = 0; k < {i_bits}; k = k + 1) begin : g_i
      assign their_i[k] = sent[{i_at}];
    end
    for (k = 0; k <= {last}; k = k + 1) begin : g_o
      assign o_payload[{width} * k +: {width}] = their_o[{width} * {o_at} +: {width}];
    end
  endgenerate
{_handshakes(ports)}  {_escaped(top)} dut(
    {pins}
  );
endmodule
"""


def _handshakes(ports: PortMap) -> str:
    """What stands in for the handshake signals that the protocol lacks."""
    match ports.protocol:
        case "ready-valid":
            return ""
        case "valid-only":
            return "  assign i_ready = 1'b1;\n"
        case "fixed-latency" if not ports.latency:
            return "  assign i_ready = 1'b1;\n  assign o_valid = i_valid;\n"
        case "fixed-latency":
            top = ports.latency - 1
            return (
                f"  reg [{top}:0] due;\n"
                f"  wire [{top + 1}:0] next = {{due, i_valid}};\n"
                f"  always @(posedge clk or posedge rst)\n"
                f"    if (rst) due <= {top + 1}'d0; else due <= next[{top}:0];\n"
                f"  assign i_ready = 1'b1;\n  assign o_valid = due[{top}];\n"
            )


def _escaped(name: str) -> str:
    """A Verilog name as it is, or escaped where it is no plain one."""
    plain = name.replace("_", "a").replace("$", "a")
    return name if plain.isascii() and plain.isalnum() and not name[0].isdigit() else f"\\{name} "
