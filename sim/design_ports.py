"""The ports a design really has, as Verilator's parser sees them."""

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from algo.errors import LiftError
from algo.files import read_json
from sim.toolchain import tool_environment

Direction = Literal["input", "output", "inout"]
_ERRORS = 20  # lines of Verilator's answer that an error quotes


@dataclass(frozen=True)
class Port:
    """A port of a module: its name, direction and width in bits."""

    name: str
    direction: Direction
    width: int

    def __str__(self) -> str:
        return f"{self.name} ({self.direction}, {self.width} bit{'s' * (self.width > 1)})"


def design_ports(sources: Sequence[Path], includes: Sequence[Path], top: str) -> dict[str, Port]:
    """Ports of module `top` in Verilog or SystemVerilog sources, in their order.

    Raises:
        LiftError: the sources have errors, there is no such module, or a port is no plain vector.
    """
    with tempfile.TemporaryDirectory(prefix="liftquant-") as folder:
        command = [
            "verilator", "--json-only", "-Wno-fatal", "-Wno-lint", "--no-timing", "--quiet",
            "--top-module", top, "--Mdir", folder, "--prefix", "Vports",
            *(f"-I{path}" for path in includes), *map(str, sources),
        ]  # fmt: skip
        done = subprocess.run(
            command,
            env=tool_environment("verilator"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = "\n".join((done.stderr or done.stdout).strip().splitlines()[:_ERRORS])
            raise LiftError(f"the sources of {top} cannot be read:\n{said}")
        tree = read_json(Path(folder) / "Vports.tree.json")
    types = {entry["addr"]: entry for entry in tree["miscsp"][0]["typesp"]}
    (module,) = [m for m in tree["modulesp"] if _name(m) == top]
    found = [v for v in module["stmtsp"] if v["type"] == "VAR" and v.get("isPrimaryIO")]
    return {_name(v): Port(_name(v), v["direction"].lower(), _width(v, types)) for v in found}


def _name(entry: Mapping[str, Any]) -> str:
    """As the source has it: Verilator's own names have two underscores and odd signs encoded."""
    return str(entry["verilogName"]).strip("\\ ")


def _width(var: Mapping[str, Any], types: Mapping[str, Mapping[str, Any]]) -> int:
    width = 1
    entry = types[var["dtypep"]]
    while True:
        match entry["type"]:
            case "BASICDTYPE":
                left, _, right = entry.get("range", "0:0").partition(":")
                return width * (abs(int(left) - int(right)) + 1)
            case "PACKARRAYDTYPE":
                left, _, right = entry["declRange"].strip("[]").partition(":")
                width *= abs(int(left) - int(right)) + 1
                entry = types[entry["refDTypep"]]
            case "REFDTYPE":
                entry = types[entry["refDTypep"]]
            case other:
                raise LiftError(
                    f"port {_name(var)} has type {other.removesuffix('DTYPE').lower()}, not a "
                    "vector of bits; give the design a top with plain packed ports"
                )
