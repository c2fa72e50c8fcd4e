"""Distortion against area, every projection and every peer in one picture."""

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from algo.files import written_aside
from hw.cost_designs import OURS

Row = dict[str, Any]
_X, _Y = "lut_per_weight_per_cycle", "gap_db"
_OURS_COLOUR, _PEER_COLOUR = "#0072b2", "#d55e00"
_MARKERS = "os^vD<>p*hXP"  # of ours: one for each architecture
_PEER_MARKER = "D"
_NEAR = 8  # points; a label farther from its point gets a line to it
# where a label may be, from its point, in points: nearest first, then left before right
_OFFSETS = sorted(
    product((-8, 8, -24, 24, -48, 48, -72, 72), (0, 9, -9, 18, -18, 27, -27, 36, -36)),
    key=lambda offset: (abs(offset[0]) + abs(offset[1]), offset[0]),
)


def pareto_front(rows: list[Row]) -> list[Row]:
    """The rows that no other beats in area without losing in distortion, by area."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda r: (r[_X], r[_Y])):
        if not front or row[_Y] < front[-1][_Y]:
            front.append(row)
    return front


def drawn_rows(report: Row) -> tuple[list[Row], list[Row]]:
    """What is drawn (projections whose distortion is known and whose cost is all logic), and what
    is left out because it has block RAM.
    """
    rows = [r for r in report["designs"] if r["unit"] == "projection" and r[_Y] is not None]
    return [r for r in rows if not r["bram"]], [r for r in rows if r["bram"]]


def plot(report: Row, folder: Path) -> None:
    """Write ``pareto.svg`` and ``pareto.png``; the same report gives the same SVG."""
    with mpl.rc_context({"svg.hashsalt": "liftquant", "svg.fonttype": "path", "font.size": 9}):
        figure = Figure(figsize=(10, 7), layout="constrained")
        FigureCanvasAgg(figure)
        _draw(figure, report)
        for kind, options in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
            with written_aside(folder / f"pareto.{kind}") as aside:
                figure.savefig(aside, format=kind, **options)


def _draw(figure: Figure, report: Row) -> None:
    axes = figure.subplots()
    rows, left_out = drawn_rows(report)
    usual = Counter(row["rate"] for row in rows).most_common(1)[0][0] if rows else 0.0
    architectures = sorted({r["architecture"] for r in rows if r["source"] == OURS})
    look = {a: _MARKERS[n % len(_MARKERS)] for n, a in enumerate(architectures)}
    _axes(axes)
    for rate in sorted({row["rate"] for row in rows}):
        _front(axes, [row for row in rows if row["rate"] == rate], rate, rate == usual)
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        ends = [min(r[_X] for r in mine), max(r[_X] for r in mine)]
        axes.plot(ends, [mine[0][_Y]] * 2, color=_colour(mine[0]), linewidth=0.6, zorder=2)
    for row in rows:
        colour = _colour(row)
        axes.plot(
            [row[_X]], [row[_Y]], linestyle="", zorder=3, color=colour,
            marker=look.get(row["architecture"], _PEER_MARKER), markersize=4 + (row["lanes"] > 1),
            markerfacecolor=colour if row["rate"] == usual else "white",
        )  # fmt: skip
    for text, marker, colour in [
        *((f"ours, {a}", look[a], _OURS_COLOUR) for a in architectures),
        *[("other formats", _PEER_MARKER, _PEER_COLOUR)][: any(r["source"] != OURS for r in rows)],
    ]:
        axes.plot([], [], linestyle="", marker=marker, color=colour, label=text)
    if rows:
        figure.legend(frameon=False, loc="outside lower center", ncols=3)
    notes = [f"filled: {usual:g} bits per weight; larger: several lanes"]
    notes += [
        f"not drawn: {row['name']}, {row['bram']} block RAM"
        for row in {r["name"]: r for r in left_out}.values()
    ]
    axes.set_title("\n".join(notes), fontsize=8, loc="left")
    _labels(figure, axes, rows, usual)


def _axes(axes: Axes) -> None:
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("LUT per weight per cycle (LUT RAM and multipliers at their price in LUT)")
    axes.set_ylabel("distortion on N(0, 1), dB over the bound 2^(-2 bits)")
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.16, y=0.08)


def _front(axes: Axes, rows: list[Row], rate: float, usual: bool) -> None:
    """The steps between the points that nothing beats."""
    front = pareto_front(rows)
    if len(front) < 2:
        return
    axes.step(
        [r[_X] for r in front], [r[_Y] for r in front], where="post", zorder=1,
        color="#555555" if usual else "#aaaaaa", linestyle="-" if usual else "--",
        linewidth=1.2 if usual else 0.8, label=f"front at {rate:g} bits",
    )  # fmt: skip


def _colour(row: Row) -> str:
    return _OURS_COLOUR if row["source"] == OURS else _PEER_COLOUR


def _labels(figure: Figure, axes: Axes, rows: list[Row], usual: float) -> None:
    """Every name once, beside its cheapest point, where nothing else is in the way."""
    figure.draw_without_rendering()  # the layout decides where points are
    names = {row["name"]: [r for r in rows if r["name"] == row["name"]] for row in rows}
    taken = [_surroundings(axes, mine) for mine in names.values()]
    for mine in sorted(names.values(), key=lambda r: r[0][_Y]):
        row = min(mine, key=lambda r: float(r[_X]))
        text = row["name"] + ("" if row["rate"] == usual else f" ({row['rate']:g} bits)")
        taken.append(_label(axes, row, text, taken))


def _label(axes: Axes, row: Row, text: str, taken: list[Bbox]) -> Bbox:
    """Write `text` beside a point, clear of `taken` where that is possible; returns its place."""
    for last, (dx, dy) in zip(range(len(_OFFSETS) - 1, -1, -1), _OFFSETS, strict=True):
        far = abs(dx) > _NEAR or abs(dy) > _NEAR
        line = {"arrowstyle": "-", "color": _colour(row), "linewidth": 0.5, "shrinkB": 3}
        label = axes.annotate(
            text, (row[_X], row[_Y]), (dx, dy), textcoords="offset points", fontsize=8,
            color=_colour(row), va="center", ha="left" if dx > 0 else "right", zorder=4,
            arrowprops=line if far else None,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )  # fmt: skip
        label.get_window_extent()  # puts the text in its place; with the line to the point
        box = Text.get_window_extent(label).padded(1)  # without
        inside = axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)
        if not last or (inside and box.count_overlaps(taken) == 0):
            break
        label.remove()
    return box


def _surroundings(axes: Axes, mine: list[Row]) -> Bbox:
    """The place on the canvas that a name's points and the line through them take."""
    places = [axes.transData.transform((row[_X], row[_Y])) for row in mine]
    left, right = min(x for x, _ in places), max(x for x, _ in places)
    return Bbox.from_extents(left - 5, places[0][1] - 5, right + 5, places[0][1] + 5)
