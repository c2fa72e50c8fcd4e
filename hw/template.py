"""How to instantiate an exported decoder: a Verilog template and a VHDL component."""

import re
from collections.abc import Mapping
from typing import Any

# names that VHDL reads as Verilog does; it knows no case, no leading, trailing or double underscore
_VHDL_BASIC = re.compile(r"[a-z](_?[a-z0-9])*")


def verilog_template(described: Mapping[str, Any]) -> str:
    """A Verilog module around one instance, with every port, its width and its meaning.

    Args:
        described: a sidecar: `module` and `ports` are read.
    """
    name, ports = described["module"], described["ports"]
    widest = max(len(port["name"]) for port in ports)
    declared = [
        f"{port['direction']:<6} wire {_verilog_range(port['width'])}{port['name']}"
        for port in ports
    ]
    connected = [f".{port['name']:<{widest}} ({port['name']})" for port in ports]
    return "\n".join(
        [
            f"// {name}: copy the instance, or build on this module; {name}.json says it in full",
            f"module {name}_template (",
            *_lines(declared, ",", [port["meaning"] for port in ports], "//"),
            ");",
            f"  {name} decoder (",
            *_lines(connected, ",", [""] * len(ports), "//", "    "),
            "  );",
            "endmodule",
            "",
        ]
    )


def vhdl_component(described: Mapping[str, Any]) -> str:
    """A VHDL package with the component declaration; names that VHDL has not are extended ones.

    Args:
        described: a sidecar: `module` and `ports` are read.
    """
    ports = described["ports"]
    declared = [
        f"{_vhdl_name(port['name'])} : {_VHDL_MODES[port['direction']]} {_vhdl_type(port['width'])}"
        for port in ports
    ]
    name = _vhdl_name(described["module"])
    package = _vhdl_name(f"{described['module']}_component")
    return "\n".join(
        [
            "library ieee;",
            "use ieee.std_logic_1164.all;",
            "",
            f"package {package} is",
            f"  component {name} is",
            "    port (",
            *_lines(declared, ";", [port["meaning"] for port in ports], "--", "      "),
            "    );",
            "  end component;",
            "end package;",
            "",
        ]
    )


_VHDL_MODES = {"input": "in ", "output": "out"}


def _lines(
    items: list[str], separator: str, remarks: list[str], sign: str, indent: str = "  "
) -> list[str]:
    """Items with a separator after all but the last, and remarks in a column."""
    ended = [item + separator for item in items[:-1]] + items[-1:]
    width = max(map(len, ended))
    return [
        f"{indent}{item:<{width}}  {sign} {remark}" if remark else indent + item
        for item, remark in zip(ended, remarks, strict=True)
    ]


def _verilog_range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""


def _vhdl_type(width: int) -> str:
    return "std_logic" if width == 1 else f"std_logic_vector({width - 1} downto 0)"


def _vhdl_name(name: str) -> str:
    return name if _VHDL_BASIC.fullmatch(name) else f"\\{name}\\"
