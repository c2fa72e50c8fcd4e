"""What an engine costs beside 4-bit integers: ``python -m benchmarks.engine_costs``.

The flow is that of ``liftquant rtl synth``; results are kept in ``build/costs/cache``. Prints a
Markdown table and writes JSON.
"""

import argparse
from pathlib import Path
from typing import Any

from algo.files import write_json
from algo.shipped import shipped_codes
from hw.cost_designs import Design
from hw.cost_engines import engine_design, int4_design, product_design
from hw.cost_report import report
from hw.costs import Cache, Cost, Mapped, measure
from hw.engine_geometry import EngineGeometry
from hw.output import Output, Scale

CODE = "LQ-12/5+9"
ROWS, COLUMNS, BUILDERS = 1024, 4096, 2
OUTPUT = Output(8, Scale("out", 16, 30))
INT4_LANES = 64
_HEADINGS = (
    "design", "LUT", "of these carry", "LUT RAM cells", "FF", "BRAM", "DSP", "weights per cycle",
    "LUT per weight per cycle", "MHz",
)  # fmt: skip


def engine(lanes: int, output: Output | None = OUTPUT) -> Design:
    """The engine that is measured, with so many lanes."""
    return engine_design(shipped_codes()[CODE], _geometry(lanes, output))


def designs(lanes: list[int]) -> list[Design]:
    """Whole engines; the widest without its last stage, and its product alone; INT4."""
    widest = _geometry(max(lanes), None)
    return [
        *(engine(count) for count in lanes),
        engine(max(lanes), None),
        product_design(shipped_codes()[CODE], widest),
        *(
            int4_design(INT4_LANES, COLUMNS, adders, symmetric)
            for symmetric in (False, True)
            for adders in (False, True)
        ),
    ]


def _geometry(lanes: int, output: Output | None) -> EngineGeometry:
    return EngineGeometry(shipped_codes()[CODE].code, ROWS, COLUMNS, lanes, BUILDERS, output)


def rows(cost: Cost) -> list[list[Any]]:
    """Cells of the table: with DSP blocks where yosys finds a use for them, and without."""
    found = [_row(cost, cost.mapped, "")]
    if cost.without_dsp is not None:
        found.append(_row(cost, cost.without_dsp, ", no DSP"))
    return found


def _row(cost: Cost, mapped: Mapped, note: str) -> list[Any]:
    area, rate = mapped.area, cost.design.per_cycle
    clock = mapped.note
    if mapped.placements:
        each = ", ".join(f"{p.mhz:.0f}" for p in mapped.placements)
        clock = f"{mapped.mhz:.0f} ({each})"
    return [
        cost.design.label + note, area.sites, area.carry, area.lut_ram, area.ff, area.bram,
        area.dsp, f"{rate:.1f}", f"{area.sites / rate:.1f}", clock,
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--seeds", type=int, default=3, help="0 leaves out placing and routing")
    parser.add_argument("--out", type=Path, default=Path("build/costs/engines.json"))
    given = parser.parse_args()
    print("| " + " | ".join(_HEADINGS) + " |\n|---" + "|---:" * (len(_HEADINGS) - 1) + "|")
    costs = []
    for design in designs(given.lanes):
        costs.append(measure(design, given.seeds, Cache(given.out.parent / "cache")))
        for row in rows(costs[-1]):
            print("| " + " | ".join(map(str, row)) + " |", flush=True)
        write_json(given.out, report(costs, given.seeds))


if __name__ == "__main__":
    main()
