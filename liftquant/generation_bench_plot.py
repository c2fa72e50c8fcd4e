"""What `liftquant bench generate` measured, as a picture: bars of speed and memory."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from algo.files import written_aside
from liftquant.generation_bench import Measured, Result, Spread

_FIRST, _OTHERS = "#888888", "#c22f2f"  # what is compared with, and ours
_PALE = 0.45  # of the colour, for the second bar of a pair
_GIB = 2**30


def plot(result: Result, path: Path) -> None:
    """Write the picture as SVG; the first model is at the top.

    Args:
        result: of one model or more.
        path: where to write.
    """
    rows = result.models
    with mpl.rc_context({"svg.hashsalt": "liftquant", "font.size": 9}):
        figure = Figure(figsize=(13, 1.9 + 0.55 * len(rows)), layout="constrained")
        speed, prompt, memory = figure.subplots(1, 3, sharey=True)
        _spreads(speed, rows, [row.decode for row in rows], 1)
        speed.set_xlabel("tokens per second, higher is better")
        speed.set_yticks(range(len(rows)), result.labels())
        speed.invert_yaxis()
        _spreads(prompt, rows, [row.prefill for row in rows], 2)
        prompt.set_xlabel("seconds to the first token, lower is better")
        _memory(memory, rows)
        for axes in (speed, prompt, memory):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(visible=True, axis="x", linewidth=0.3, alpha=0.6)
            axes.set_axisbelow(True)
            axes.margins(x=0.25)
            axes.set_xlim(left=0)
        told, where = result.settings, result.environment
        figure.suptitle(
            f"{told.new_tokens} tokens after a prompt of {told.prompt_tokens}, {where['threads']} "
            f"threads of {where['processor']}; medians of {told.rounds} rounds, 20th to 80th "
            "percentile"
        )
        with written_aside(path) as aside:
            figure.savefig(aside, format="svg", metadata={"Date": None})


def _colours(rows: Sequence[Measured]) -> list[str]:
    return [_OTHERS if i else _FIRST for i in range(len(rows))]


def _spreads(axes: Axes, rows: Sequence[Measured], values: Sequence[Spread], digits: int) -> None:
    for i, (value, colour) in enumerate(zip(values, _colours(rows), strict=True)):
        around = [[value.median - value.p20], [value.p80 - value.median]]
        axes.barh(
            i, value.median, 0.55, color=colour, xerr=around,
            error_kw={"elinewidth": 1.0, "capsize": 2.5},
        )  # fmt: skip
        axes.annotate(
            f"{value.median:.{digits}f}", (value.p80, i), xytext=(5, 0),
            textcoords="offset points", va="center",
        )  # fmt: skip


def _memory(axes: Axes, rows: Sequence[Measured]) -> None:
    """Two bars of a model: the process at its peak, and the weights."""
    for i, (row, colour) in enumerate(zip(rows, _colours(rows), strict=True)):
        pairs = ((row.peak_bytes, "peak", _PALE, -0.15), (row.weights_bytes, "weights", 1.0, 0.15))
        for amount, name, strength, offset in pairs:
            axes.barh(i + offset, amount / _GIB, 0.28, color=colour, alpha=strength)
            axes.annotate(
                f"{amount / _GIB:.2f} {name}", (amount / _GIB, i + offset), xytext=(4, 0),
                textcoords="offset points", va="center", fontsize=7.5,
            )  # fmt: skip
    axes.set_xlabel("memory, GiB, lower is better")
