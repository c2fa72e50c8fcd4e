"""Verilog as a graph of ANDs, inverters and registers, for proofs that walk it."""

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from algo.errors import LiftError
from hw.yosys import run_yosys

_SUFFIX = re.compile(r"\$\d+$")

FALSE, TRUE = 0, 1  # the two constant nets; yosys numbers the others from 2

# modules are mapped one by one and flattened last, so that every port between them stays a net
MAPPING = (
    "proc",
    "opt -nosdff",
    "memory",
    "opt -nosdff",
    "techmap",
    "opt -nosdff",
    "dfflegalize -cell $_DFFE_PP_ 01",
    "aigmap",
    "setundef -undriven -anyseq",  # an address that memory has no place for reads anything
    "opt_clean",
)


@dataclass(frozen=True)
class Register:
    """A flip-flop: at a rising clock, ``q`` takes ``d`` where ``enable`` is high."""

    name: str
    q: int
    d: int
    enable: int
    init: int | None


@dataclass(frozen=True)
class Netlist:
    """One flat module; a net is a number.

    Attributes:
        inputs: nets of each input port, least significant first.
        outputs: nets of each output port.
        names: nets of every named signal, submodules' as ``submodule.signal``.
        gates: the nets that a net is the AND of, or the one net that it is the inverse of.
        registers: by their output.
        undefined: nets that may have any value at any time; yosys leaves them where the branches
            of a case exclude each other.
        clock: the one net that clocks every register, or None without registers.
    """

    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    names: Mapping[str, tuple[int, ...]]
    gates: Mapping[int, tuple[int, ...]]
    registers: Mapping[int, Register]
    undefined: frozenset[int]
    clock: int | None

    def signal(self, name: str) -> tuple[int, ...]:
        """Nets of a named signal.

        Raises:
            LiftError: there is none.
        """
        if name not in self.names:
            raise LiftError(f"the netlist has no signal {name!r}; was it renamed?")
        return self.names[name]

    def ordered_cone(self, roots: Iterable[int], cut: Callable[[int], bool]) -> list[int]:
        """Nets that `roots` depend on within a cycle, each after those that it depends on.

        Nets for which `cut` is true, registers, inputs and constants are in it, and lead no
        further.

        Raises:
            CombinationalLoop: a net depends on itself.
        """
        order: list[int] = []
        state: dict[int, bool] = {}  # False while its inputs are being walked
        stack = list(roots)
        while stack:
            net = stack[-1]
            if state.get(net):
                stack.pop()
                continue
            sources = () if cut(net) else self.gates.get(net, ())
            if net in state or not sources:
                state[net] = True
                order.append(stack.pop())
                continue
            state[net] = False
            for source in sources:
                if state.get(source) is False:
                    raise CombinationalLoop(f"net {self.name_of(source)} depends on itself")
                stack.append(source)
        return order

    def sources(self, roots: Iterable[int], cut: Callable[[int], bool]) -> set[int]:
        """The leaves of `ordered_cone` without constants and undefined nets."""
        return {
            net
            for net in self.ordered_cone(roots, cut)
            if net > TRUE and net not in self.undefined and (cut(net) or net not in self.gates)
        }

    def name_of(self, net: int) -> str:
        """A name for people: ``signal[bit]``, or the number."""
        for name, nets in self.names.items():
            if net in nets and "$" not in name:
                return f"{name}[{nets.index(net)}]"
        return str(net)


class CombinationalLoop(Exception):
    """A net that depends on itself without a register between."""


def map_verilog(verilog: str, top: str = "liftquant_decoder") -> Netlist:
    """Map Verilog with yosys and read the result.

    Raises:
        LiftError: yosys rejects it, or it holds cells other than logic and rising-edge registers.
    """
    with tempfile.TemporaryDirectory(prefix="liftquant-") as name:
        folder = Path(name)
        (folder / "design.v").write_text(verilog, encoding="utf-8")
        run_yosys(
            [
                "read_verilog -sv design.v",
                f"hierarchy -check -top {top}",
                *MAPPING,
                "write_json parts.json",
                "flatten",
                "write_json netlist.json",
            ],
            folder,
        )
        parts, flat = (
            json.loads((folder / name).read_text("utf-8"))
            for name in ("parts.json", "netlist.json")
        )
    netlist = read_netlist(flat, top)
    return replace(netlist, names={**netlist.names, **_ports(parts["modules"], top, "", netlist)})


def _ports(
    modules: Mapping[str, Any], module: str, path: str, netlist: Netlist
) -> dict[str, tuple[int, ...]]:
    """Nets of the parts' ports as ``part.port``, also where a port had to be called ``port$n``
    because a signal within the part has its name.
    """
    found = {}
    for name, cell in modules[module]["cells"].items():
        part = f"{path}{name}"
        for port in modules.get(cell["type"], {}).get("ports", {}):
            found[f"{part}.{_SUFFIX.sub('', port)}"] = netlist.signal(f"{part}.{port}")
        if cell["type"] in modules:
            found |= _ports(modules, cell["type"], f"{part}.", netlist)
    return found


def read_netlist(design: Mapping[str, Any], top: str) -> Netlist:
    """The module `top` of what yosys' ``write_json`` wrote.

    Raises:
        LiftError: a cell is of a kind that `MAPPING` does not leave, or there are two clocks.
    """
    module = design["modules"][top]
    ports = module["ports"]
    nets = {name: _nets(entry["bits"]) for name, entry in module["netnames"].items()}
    initial = {
        net: int(bit)
        for name, entry in module["netnames"].items()
        for net, bit in zip(nets[name], reversed(entry["attributes"].get("init", "")), strict=False)
        if bit in "01"
    }
    gates: dict[int, tuple[int, ...]] = {}
    registers: dict[int, Register] = {}
    undefined: set[int] = set()
    clocks: set[int] = set()
    for name, cell in module["cells"].items():
        pins = {pin: _nets(bits)[0] for pin, bits in cell["connections"].items() if bits}
        match cell["type"]:
            case "$_AND_":
                gates[pins["Y"]] = (pins["A"], pins["B"])
            case "$_NOT_":
                gates[pins["Y"]] = (pins["A"],)
            case "$_DFFE_PP_":
                clocks.add(pins["C"])
                q = pins["Q"]
                registers[q] = Register(name, q, pins["D"], pins["E"], initial.get(q))
            case "$anyseq":
                undefined.update(_nets(cell["connections"]["Y"]))
            case "$scopeinfo":
                pass
            case other:
                raise LiftError(f"cell {name} is a {other}, not an AND, inverter or register")
    if len(clocks) > 1:
        raise LiftError("the netlist has more than one clock; proofs need a single one")

    def facing(direction: str) -> dict[str, tuple[int, ...]]:
        return {n: _nets(p["bits"]) for n, p in ports.items() if p["direction"] == direction}

    return Netlist(
        facing("input"), facing("output"), nets, gates, registers, frozenset(undefined),
        next(iter(clocks), None),
    )  # fmt: skip


def _nets(bits: Iterable[int | str]) -> tuple[int, ...]:
    # only wires that nothing reads are still undefined here
    constants = {"0": FALSE, "1": TRUE, "x": FALSE, "z": FALSE}
    return tuple(bit if isinstance(bit, int) else constants[bit] for bit in bits)
