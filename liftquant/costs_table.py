"""Costs of decoders as tables: for a terminal, and as Markdown."""

from collections.abc import Callable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

Row = dict[str, Any]


def _number(key: str, form: str = ",d") -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        return "" if row[key] is None else format(row[key], form)

    return cell


def _clock(row: Row) -> str:
    if row["mhz"] is None:
        return str(row["placement_note"]).partition(":")[0]
    if row["mhz_min"] == row["mhz_max"]:
        return f"{row['mhz']:.0f}"
    return f"{row['mhz']:.0f}, {row['mhz_min']:.0f}-{row['mhz_max']:.0f}"


def _without_dsp(row: Row) -> str:
    plain = row["without_dsp"]
    if plain is None:
        return ""
    return f"{plain['lut']:,}" + ("" if plain["mhz"] is None else f" at {plain['mhz']:.0f}")


def _gates(row: Row) -> str:
    return "" if row["gates"] is None else f"{row['gates']['two_input']:,}"


def _per_lut(row: Row) -> str:
    speed = row["weights_per_second_per_lut"]
    return "" if speed is None else f"{speed / 1e6:.2f}"


def _zero_blank(key: str) -> Callable[[Row], str]:
    return lambda row: f"{row[key]:,}" if row[key] else ""


_DECIBELS = "gap, dB"
_LEFT = ("design", "architecture")
_WIDE = ("placed", "gates", _DECIBELS)  # in the Markdown only: a terminal has no room for them
_COLUMNS: dict[str, Callable[[Row], str]] = {
    "design": lambda row: row["name"],
    "architecture": lambda row: row["architecture"],
    "P": _number("lanes"),
    "LUT": _number("lut"),
    "carry": _number("carry"),
    "LUT RAM": _zero_blank("lut_ram"),
    "FF": _number("ff"),
    "BRAM": _zero_blank("bram"),
    "DSP": _zero_blank("dsp"),
    "LUT, no DSP": _without_dsp,
    "placed": _number("placed_sites"),
    "MHz": _clock,
    "lat.": _number("latency"),
    "W/cyc": _number("weights_per_cycle", "g"),
    "LUT per W/cyc": _number("lut_per_weight_per_cycle", ".1f"),
    "MW/s per LUT": _per_lut,
    "gates": _gates,
    "MSE": _number("mse", ".5f"),
    _DECIBELS: _number("gap_db", ".2f"),
}
_LEGEND = (
    "P: lanes. LUT: LUT4, and two for every CCU2C (carry). MHz: median, least-most of the seeds. "
    "lat.: latency in clock edges. W: weights. LUT per W/cyc: without DSP blocks, and six for "
    "every cell of LUT RAM."
)
_TITLES = {
    "projection": "projections, and what peers have in their place: window bits in, weights out",
    "decoder": "whole decoders: packed words in, weights out",
}


def _tables(report: Row) -> list[tuple[str, dict[str, list[str]]]]:
    """For every unit a title and the columns that say something."""
    found = []
    for unit, title in _TITLES.items():
        rows = [row for row in report["designs"] if row["unit"] == unit]
        cells = {heading: [cell(row) for row in rows] for heading, cell in _COLUMNS.items()}
        filled = {heading: column for heading, column in cells.items() if any(column)}
        if rows:
            found.append((title, filled))
    return found


def cost_table(report: Row) -> list[Table]:
    """One table for projections, one for whole decoders where there are any."""
    tables = []
    for title, columns in _tables(report):
        table = Table(
            title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False,
            padding=0, caption=_LEGEND, caption_justify="left",
        )  # fmt: skip
        shown = {h: column for h, column in columns.items() if h not in _WIDE}
        for heading in shown:
            table.add_column(
                heading.replace(" ", "\n"), justify="left" if heading in _LEFT else "right",
                no_wrap=True,
            )  # fmt: skip
        for cells in zip(*shown.values(), strict=True):
            table.add_row(*cells)
        tables.append(table)
    return tables


def markdown(report: Row) -> str:
    """The tables as Markdown, and a line on what they were measured with."""
    tools = ", ".join(f"{tool} {version}" for tool, version in report["versions"].items())
    lines = [
        f"{tools}. {report['device']}, nextpnr {report['nextpnr']}, seeds "
        f"{', '.join(map(str, report['seeds'])) or 'none'}.",
        "",
        f"{_LEGEND} placed: LUT sites after placement. gates: of two inputs.",
    ]
    for title, columns in _tables(report):
        lines += ["", f"{title[0].upper()}{title[1:]}:", ""]
        lines.append("| " + " | ".join(columns) + " |")
        lines.append("|" + "|".join("---" if h in _LEFT else "---:" for h in columns) + "|")
        for cells in zip(*columns.values(), strict=True):
            texts = [
                f"`{c}`" if c and h == "architecture" else c
                for h, c in zip(columns, cells, strict=True)
            ]
            lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"
