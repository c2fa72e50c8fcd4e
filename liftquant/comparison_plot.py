"""A comparison as a picture: perplexity and KL divergence against bits per weight."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from algo.files import written_aside
from liftquant.comparing import OURS
from liftquant.comparison import Comparison, Entry

_OURS_COLOUR = "#c22f2f"
# colours that stay apart for most colour-blind readers (Okabe and Ito), each with its marker
_LOOKS = {
    "rtn": ("#888888", "x"), "hqq": ("#e69f00", "s"), "gptq": ("#0072b2", "^"),
    "autoround": ("#009e73", "D"), "gguf": ("#cc79a7", "o"),
}  # fmt: skip


def _panel(axes: Axes, entries: list[Entry], what: str) -> None:
    """One panel: ours as a line, every peer as labelled markers, log y."""

    def value(entry: Entry) -> tuple[float, float]:
        d = entry.divergence
        if what == "kl":
            return d.kl, d.standard_error
        return d.model.value, d.model.standard_error

    for peer in [p for p in _LOOKS if any(e.peer == p for e in entries)]:
        mine = [e for e in entries if e.peer == peer]
        colour, marker = _LOOKS[peer]
        axes.errorbar(
            [e.bits for e in mine], [value(e)[0] for e in mine], [value(e)[1] for e in mine],
            fmt=marker, color=colour, markersize=5, elinewidth=0.8, label=peer,
            markerfacecolor="none" if marker != "x" else colour, zorder=2,
        )  # fmt: skip
        for entry in mine:
            axes.annotate(
                entry.label, (entry.bits, value(entry)[0]), xytext=(4, 3),
                textcoords="offset points", fontsize=5.5, color=colour,
            )  # fmt: skip
    ours = [e for e in entries if e.peer == OURS]
    if ours:
        axes.errorbar(
            [e.bits for e in ours], [value(e)[0] for e in ours], [value(e)[1] for e in ours],
            fmt="o-", color=_OURS_COLOUR, markersize=6, linewidth=1.8, label=OURS, zorder=3,
        )  # fmt: skip
    axes.set_yscale("log")
    for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        which(FuncFormatter(lambda y, _: f"{y:g}"))  # 20, not 2 x 10^1
    axes.set_xlabel("bits per weight, everything stored for the layers included")
    axes.grid(visible=True, which="both", linewidth=0.3, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def plot(comparison: Comparison, folder: Path) -> None:
    """Write ``plot.png`` and ``plot.svg``.

    Args:
        comparison: with one entry at least.
        folder: where to write.
    """
    with mpl.rc_context({"svg.hashsalt": "liftquant", "font.size": 9}):
        figure = Figure(figsize=(13, 6), layout="constrained")
        left, right = figure.subplots(1, 2)
        _panel(left, comparison.entries, "perplexity")
        _panel(right, comparison.entries, "kl")
        original = comparison.entries[0].divergence.reference.value
        left.axhline(original, color="black", linewidth=0.8, linestyle="--")
        left.annotate(
            "original", (0.995, original), xycoords=("axes fraction", "data"), ha="right",
            xytext=(0, 3), textcoords="offset points", fontsize=8,
        )  # fmt: skip
        left.set_title("perplexity")
        right.set_title("KL divergence from the original, nats per token")
        left.legend(frameon=False)
        figure.suptitle(f"{Path(comparison.model).name} on {comparison.text}; lower is better")
        for kind, options in (("png", {"dpi": 160}), ("svg", {"metadata": {"Date": None}})):
            with written_aside(folder / f"plot.{kind}") as aside:
                figure.savefig(aside, format=kind, **options)
