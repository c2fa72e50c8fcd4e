"""Mutants of a decoder: one netlist that holds them all, chosen by an input."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from algo.errors import LiftError
from hw.netlist import FALSE, MAPPING, TRUE, Netlist, read_netlist
from hw.yosys import run_yosys

SELECT = "mutsel"  # the input: 0 for the decoder as it is, n for mutant n
_SOURCE = "design.v"
_CLOCKS = {"CLK", "RD_CLK", "WR_CLK"}


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        number: the value of `SELECT` that chooses it, from 1.
        mode: ``inv``: the bit is inverted; ``const0``, ``const1``: it is stuck; ``cnot0``,
            ``cnot1``: it is inverted where bit `control` of the same port is 0, or 1.
        cell: the cell, by the name that yosys gave it.
        port: of the cell, and which bit of it.
        control: the controlling bit of the port, in modes ``cnot0`` and ``cnot1``.
        wire: a signal on that bit, submodules' as ``submodule.signal``; empty where it has no name.
        source: ``line`` or ``line-line`` of the Verilog; empty where yosys knows none.
    """

    number: int
    mode: str
    cell: str
    port: str
    control: int | None
    wire: str
    source: str

    def describe(self) -> str:
        """For people, one line."""
        by = "" if self.control is None else f" by bit {self.control}"
        wire = f", wire {self.wire}" if self.wire else ""
        lines = f", Verilog line {self.source}" if self.source else ""
        return f"{self.mode}{by} at {self.port} of cell {self.cell}{wire}{lines}"


@dataclass(frozen=True)
class Mutants:
    """A netlist with faults to choose from.

    Attributes:
        netlist: the decoder; its input `SELECT` chooses.
        mutants: number n is ``mutants[n - 1]``.
    """

    netlist: Netlist
    mutants: tuple[Mutant, ...]


def make_mutants(verilog: str, top: str, count: int, seed: int) -> Mutants:
    """Let yosys choose and insert faults, spread over the flattened design.

    Clocks are left alone, for the netlist is evaluated cycle by cycle. The same arguments give the
    same mutants.

    Raises:
        LiftError: yosys fails or finds fewer places; the message says how many.
    """
    if count < 1:
        raise LiftError(f"mutants={count}: ask for at least one")
    with tempfile.TemporaryDirectory(prefix="liftquant-") as name:
        folder = Path(name)
        (folder / _SOURCE).write_text(verilog, encoding="utf-8")
        prepare = [
            f"read_verilog -sv {_SOURCE}",
            f"hierarchy -check -top {top}",
            "proc -norom",  # the entries of tables are places for faults too
            "flatten",
            "opt -nosdff",
            "memory -nomap",
            "opt_clean",
        ]
        wanted = count + count // 10 + 8  # some fall on clocks
        choose = [f"mutate -list {wanted} -seed {seed} -o list.txt", "write_json before.json"]
        run_yosys([*prepare, *choose], folder)
        lines = (folder / "list.txt").read_text(encoding="utf-8").splitlines()
        lines = [line for line in lines if not _CLOCKS & {*line.split()}]
        if len(lines) < count:
            raise LiftError(f"yosys found {len(lines)} places for faults; ask for at most that")
        lines = lines[:count]
        width = count.bit_length()
        apply = [
            line.replace("mutate ", f"mutate -ctrl {SELECT} {width} {n} ", 1)
            for n, line in enumerate(lines, 1)
        ]
        (folder / "apply.ys").write_text("\n".join(apply) + "\n", encoding="utf-8")
        finish = ["script apply.ys", "memory_map", *MAPPING[1:], "write_json netlist.json"]
        run_yosys([*prepare, *finish], folder)
        before, design = (
            json.loads((folder / f"{stage}.json").read_text(encoding="utf-8"))
            for stage in ("before", "netlist")
        )
    netlist = _with_initial_values(read_netlist(design, top), before, top)
    chosen = tuple(_parse(n, line) for n, line in enumerate(lines, 1))
    return Mutants(netlist, chosen)


def selected(netlist: Netlist, mutant: int) -> Netlist:
    """The netlist with its selecting input at `mutant`, constants followed through."""
    known = {net: mutant >> n & 1 for n, net in enumerate(netlist.inputs[SELECT])}
    known |= {FALSE: FALSE, TRUE: TRUE}
    roots = [net for nets in netlist.outputs.values() for net in nets]
    for register in netlist.registers.values():
        roots += [register.d, register.enable]
    same: dict[int, int] = {}
    gates: dict[int, tuple[int, ...]] = {}
    for net in netlist.ordered_cone(roots, lambda net: False):
        sources = tuple(same.get(s, s) for s in netlist.gates.get(net, ()))
        values = [known.get(s) for s in sources]
        if net in known or not sources:
            continue
        if len(sources) == 1 and values[0] is not None:
            known[net] = 1 - values[0]
        elif len(sources) == 2 and 0 in values:
            known[net] = 0
        elif values == [1, 1]:
            known[net] = 1
        elif len(sources) == 2 and 1 in values:
            same[net] = sources[1 - values.index(1)]
        elif len(sources) == 2 and sources[0] == sources[1]:
            same[net] = sources[0]
        elif len(sources) == 1 and len(gates.get(sources[0], ())) == 1:
            same[net] = gates[sources[0]][0]  # inverted twice
        else:
            gates[net] = sources
    gates |= {net: (other, other) for net, other in same.items()}
    gates |= {net: (value, value) for net, value in known.items() if net > TRUE}
    names = {name: tuple(same.get(n, n) for n in nets) for name, nets in netlist.names.items()}
    return replace(netlist, gates=gates, names=names)


def _with_initial_values(netlist: Netlist, before: Mapping[str, Any], top: str) -> Netlist:
    """Give registers whose output is mutated the initial values they had before.

    Yosys keeps such a value with the wire's name, which is behind the fault now.
    """
    initial: dict[int, int] = {}
    names = selected(netlist, 0).names
    for name, entry in before["modules"][top]["netnames"].items():
        values = reversed(entry["attributes"].get("init", ""))
        for net, bit in zip(names.get(name, ()), values, strict=False):
            if bit in "01":
                initial[net] = int(bit)
    registers = {
        q: register if register.init is not None else replace(register, init=initial.get(q))
        for q, register in netlist.registers.items()
    }
    return replace(netlist, registers=registers)


def _parse(number: int, line: str) -> Mutant:
    """A line of ``mutate -list``."""
    words = line.split()
    given = {a: b.lstrip("\\") for a, b in pairwise(words) if a[0] == "-"}
    wire = given.get("-wire", "")
    source = given.get("-src", "").partition("|")[0].rpartition(":")[2]
    ends = [place.partition(".")[0] for place in source.split("-") if place]
    return Mutant(
        number=number,
        mode=given["-mode"],
        cell=given["-cell"],
        port=f"{given['-port']}[{given['-portbit']}]",
        control=int(given["-ctrlbit"]) if "-ctrlbit" in given else None,
        wire=f"{wire}[{given['-wirebit']}]" if wire else "",
        source="-".join(dict.fromkeys(ends)),
    )
