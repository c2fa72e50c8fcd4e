"""A comparison as a picture: perplexity and KL divergence against bits per weight."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from algo.evaluate import Divergence
from algo.files import written_aside
from liftquant.comparing import OURS
from liftquant.comparison import Comparison, Entry

_BROKEN = 50  # times the original's perplexity: beyond that a model says nothing any more
_OURS_COLOUR = "#c22f2f"
_SMALL = 5.5  # points, of the labels
# how labels lie to each other, in points: a bit, a factor of ten, a letter; about
_BIT, _DECADE, _LETTER = 150, 160, 2.7
# colours that stay apart for most colour-blind readers (Okabe and Ito), each with its marker
_LOOKS = {
    "rtn": ("#888888", "x"), "hqq": ("#e69f00", "s"), "gptq": ("#0072b2", "^"),
    "autoround": ("#009e73", "D"), "gguf": ("#cc79a7", "o"),
}  # fmt: skip


@dataclass(frozen=True)
class _Panel:
    """What one panel shows, and up to where: broken models are marked at its upper edge."""

    title: str
    value: Callable[[Divergence], float]
    error: Callable[[Divergence], float]
    top: float

    def draw(self, axes: Axes, entries: list[Entry]) -> None:
        """Ours as a line, every peer as labelled markers, log y."""
        for peer in [p for p in _LOOKS if any(e.peer == p for e in entries)]:
            mine = [e for e in entries if e.peer == peer]
            colour, marker = _LOOKS[peer]
            hollow = "none" if marker != "x" else colour
            self._points(
                axes, mine, fmt=marker, color=colour, markersize=5, elinewidth=0.8, label=peer,
                markerfacecolor=hollow, zorder=2,
            )  # fmt: skip
        self._names(axes, [entry for entry in entries if entry.peer != OURS])
        ours = [e for e in entries if e.peer == OURS]
        if ours:
            self._points(
                axes, ours, fmt="o-", color=_OURS_COLOUR, markersize=6, linewidth=1.8, label=OURS,
                zorder=3,
            )  # fmt: skip
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))  # 20, not 2 x 10^1
        axes.yaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.1)
        axes.set_ylim(top=1.2 * self.top)
        axes.set_title(self.title)
        axes.set_xlabel("bits per weight, everything stored for the layers included")
        axes.grid(visible=True, linewidth=0.3, alpha=0.6)
        axes.spines[["top", "right"]].set_visible(False)

    def _points(self, axes: Axes, entries: list[Entry], **look: Any) -> None:
        heights = [min(self.value(e.divergence), self.top) for e in entries]
        errors = [
            0 if self.value(e.divergence) > self.top else self.error(e.divergence) for e in entries
        ]
        axes.errorbar([e.bits for e in entries], heights, errors, **look)

    def _names(self, axes: Axes, entries: list[Entry]) -> None:
        """Labels beside their points, on the side where no other label is in the way."""
        taken: list[tuple[float, float, float]] = []  # left, right, height; in points, about
        for entry in sorted(entries, key=lambda e: e.bits):
            colour, _ = _LOOKS[entry.peer]
            value = self.value(entry.divergence)
            if value > self.top:
                axes.annotate(
                    f"{entry.label}: {value:.2g} \N{UPWARDS ARROW}", (entry.bits, self.top),
                    xytext=(0, -6), textcoords="offset points", fontsize=_SMALL, color=colour,
                    rotation=90, ha="center", va="top",
                )  # fmt: skip
                continue
            x, y = entry.bits * _BIT, math.log10(value) * _DECADE
            length = _LETTER * len(entry.label)
            for right, dy in ((True, 5), (True, -5), (False, 5), (False, -5), (True, 12)):
                left = x + 4 if right else x - 4 - length
                clear = all(
                    left > b or left + length < a or abs(y + dy - h) > _SMALL for a, b, h in taken
                )
                if clear:
                    break
            taken.append((left, left + length, y + dy))
            axes.annotate(
                entry.label, (entry.bits, value), xytext=(4 if right else -4, dy),
                textcoords="offset points", fontsize=_SMALL, color=colour,
                ha="left" if right else "right", va="center",
            )  # fmt: skip


def plot(comparison: Comparison, folder: Path) -> None:
    """Write ``plot.png`` and ``plot.svg``.

    Args:
        comparison: with one entry at least.
        folder: where to write.
    """
    with mpl.rc_context({"svg.hashsalt": "liftquant", "font.size": 9}):
        figure = Figure(figsize=(13, 6), layout="constrained")
        left, right = figure.subplots(1, 2)
        original = comparison.entries[0].divergence.reference.value
        _Panel(
            "perplexity", lambda d: d.model.value, lambda d: d.model.standard_error,
            _BROKEN * original,
        ).draw(left, comparison.entries)  # fmt: skip
        _Panel(
            "KL divergence from the original, nats per token", lambda d: d.kl,
            lambda d: d.standard_error, math.log(_BROKEN),
        ).draw(right, comparison.entries)  # fmt: skip
        left.axhline(original, color="black", linewidth=0.8, linestyle="--")
        left.annotate(
            "original", (0.005, original), xycoords=("axes fraction", "data"), ha="left",
            xytext=(0, 3), textcoords="offset points", fontsize=8,
        )  # fmt: skip
        left.legend(frameon=False)
        figure.suptitle(f"{Path(comparison.model).name} on {comparison.text}; lower is better")
        for kind, options in (("png", {"dpi": 160}), ("svg", {"metadata": {"Date": None}})):
            with written_aside(folder / f"plot.{kind}") as aside:
                figure.savefig(aside, format=kind, **options)
