"""A frame for placing a design by itself: few pins, and registers between them and the design."""

from dataclasses import dataclass

INSTANCE = "design"
_FOLD = 4  # inputs of a LUT


@dataclass(frozen=True)
class Port:
    """A port of the design, as its Verilog has it."""

    name: str
    width: int
    output: bool


def harness(top: str, ports: list[Port], name: str = "harness", clock: str = "clk") -> str:
    """Verilog of a module `name` around an instance of `top`, with pins ``clk``, ``i`` and ``o``.

    Every input bit but the clock is a register of one long shift register, which ``i`` feeds. Every
    output bit goes to a register, and those fold into ``o`` by XORs of four with a register behind
    each: every path of the design begins and ends at a register, nothing of it can be optimised
    away, and the frame's own paths pass one LUT at most.
    """
    inputs = [port for port in ports if not port.output and port.name != clock]
    outputs = [port for port in ports if port.output]
    lines = [f"module {name}(input clk, input i, output o);"]
    pins = [f".{clock}(clk)"]
    width = sum(port.width for port in inputs)
    lines.append(f"reg [{width}:0] shift; always @(posedge clk) shift <= {{shift, i}};")
    at = 0
    for port in inputs:
        pins.append(f".{port.name}(shift[{at + port.width - 1}:{at}])")
        at += port.width
    for port in outputs:
        lines.append(f"wire [{port.width - 1}:0] from_{port.name};")
        pins.append(f".{port.name}(from_{port.name})")
    lines.append(f"{top} {INSTANCE}({', '.join(pins)});")
    rank = [f"from_{port.name}[{n}]" for port in outputs for n in range(port.width)]
    lines.append(f"reg [{len(rank) - 1}:0] fold_0;")
    lines.append(f"always @(posedge clk) fold_0 <= {{{', '.join(reversed(rank))}}};")
    level = 0
    while len(rank) > 1:
        rank = [f"fold_{level}[{n}]" for n in range(len(rank))]
        groups = [" ^ ".join(group) for group in _batches(rank)]
        level += 1
        lines.append(f"reg [{len(groups) - 1}:0] fold_{level};")
        lines.append(f"always @(posedge clk) fold_{level} <= {{{', '.join(reversed(groups))}}};")
        rank = groups
    lines += [f"assign o = fold_{level};", "endmodule"]
    return "\n".join(lines) + "\n"


def _batches(items: list[str]) -> list[list[str]]:
    return [items[at : at + _FOLD] for at in range(0, len(items), _FOLD)]
