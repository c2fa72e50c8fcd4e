"""What a fixed list of decoders cost, over time: ``python -m benchmarks.rtl_history``.

Measures them and adds a dated entry to ``rtl_history.json``. Tests map them again, and place some,
and fail where they have drifted from the last entry; if the new figures are meant, add an entry.
"""

import datetime
import tempfile
from pathlib import Path
from typing import Any

from algo.files import read_json, write_json
from algo.shipped import shipped_codes
from benchmarks.engine_costs import engine
from hw.architecture import parse_architecture
from hw.cost_designs import TOP, Design, decoder_design, projection_design
from hw.costs import Cache, measure, versions
from hw.synthesis import Area, map_to_ecp5
from liftquant import __version__
from liftquant.console import err, progress

HISTORY = Path(__file__).parent / "rtl_history.json"
SEEDS = 3
WEIGHTS = 576  # of a stream, for whole decoders
ENGINE_LANES = 64
TOLERANCE = 0.10
# unit, code, architecture, lanes
_LIST = (
    ("projection", "LQ-2/1+2^4", "tables:4", 1),
    ("projection", "LQ-2/1+6", "tables:4", 1),
    ("projection", "LQ-2/1+6^8:2", "tables:4", 1),
    ("projection", "LQ-12/5+9", "tables:4", 1),
    ("projection", "LQ-2/1+10^12", "tables:4", 8),
    ("projection", "LQ-2/1+10^12:3", "tables:4", 8),
    ("projection", "LQ-2/1+14^16:4", "tables:4", 1),
    ("projection", "LQ-24/10", "tables:4", 1),
    ("projection", "LQ-24/10", "tables:4,flow=credit", 1),
    ("projection", "LQ-16/8", "tree", 1),
    ("decoder", "LQ-12/5+9", "tables:4", 1),
)


def designs() -> list[Design]:
    """The designs of every entry, the smallest first."""
    found = []
    for unit, name, text, lanes in _LIST:
        shipped, architecture = shipped_codes()[name], parse_architecture(text)
        if unit == "decoder":
            found.append(decoder_design(shipped, name, lanes, architecture, WEIGHTS))
        else:
            found.append(projection_design(shipped, name, lanes, architecture))
    return [*found, engine(ENGINE_LANES)]


def last_entry() -> dict[str, Any]:
    """The last entry: ``designs`` maps labels to figures."""
    entry: dict[str, Any] = read_json(HISTORY)["entries"][-1]
    return entry


def mapped_area(design: Design) -> Area:
    """The design's cells now, by yosys alone."""
    with tempfile.TemporaryDirectory(prefix="liftquant-") as name:
        return map_to_ecp5(design.verilog, TOP, Path(name))


def drifts(recorded: dict[str, Any], area: Area, mhz: float | None = None) -> list[str]:
    """What differs by more than `TOLERANCE` from the figures of an entry; empty where all is well.

    Args:
        recorded: a design's figures in an entry.
        area: its cells now.
        mhz: its clock now, the median of as many seeds; None where it was not placed.
    """
    now = {"lut": area.lut, "lut_ram": area.lut_ram, "ff": area.ff, "mhz": mhz}
    return [
        f"{name}: {recorded[name]:g} recorded, {value:g} now"
        for name, value in now.items()
        if value is not None and abs(value - recorded[name]) > TOLERANCE * recorded[name]
    ]


def new_entry(date: str, cache: Path) -> dict[str, Any]:
    """All designs measured; results go to and come from `cache`."""
    chosen = designs()
    figures = {}
    with progress("measuring", len(chosen)) as meter:
        for design in chosen:
            cost = measure(design, SEEDS, Cache(cache))
            area = cost.mapped.area
            figures[design.label] = {
                "lut": area.lut, "carry": area.carry, "lut_ram": area.lut_ram, "ff": area.ff,
                "mhz": cost.mapped.mhz,
            }  # fmt: skip
            meter.advance(1, design.label)
    return {
        "date": date,
        "liftquant": __version__,
        "tools": versions(),
        "seeds": SEEDS,
        "designs": figures,
    }


def main() -> None:
    """Add an entry."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    entries = read_json(HISTORY)["entries"] if HISTORY.exists() else []
    entry = new_entry(today, Path("build") / "rtl-history")
    write_json(HISTORY, {"entries": [*entries, entry]})
    err.print(f"{HISTORY}: entry {len(entries) + 1}", soft_wrap=True)


if __name__ == "__main__":
    main()
