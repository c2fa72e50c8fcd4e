"""Predicted tokens per second against bits, published figures beside: a panel per model and GPU."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from algo.files import written_aside
from algo.plan import RATES
from gpu.llama_models import MODELS
from gpu.published import Published
from gpu.speed_checks import SCENARIOS
from gpu.time_model import NOTE
from liftquant.estimating import Question

_OURS = "#0072b2"
# published formats: colour and marker; what is not named here is drawn as the last
_LOOKS = {
    "EXL2": ("#d55e00", "s"),
    "AWQ": ("#009e73", "o"),
    "GPTQ": ("#56b4e9", "v"),
    "QTIP": ("#cc79a7", "D"),
    "QuIP#": ("#882255", "^"),
    "AQLM": ("#e69f00", "P"),
    "int4": ("#999933", "X"),
}
_HIGHEST = 5.0  # bits; above it published formats are not drawn, 16 bits but as a line
_RIGHT = 5.2


def draw(question: Question, path: Path) -> None:
    """Write the picture as SVG; the same question gives the same file."""
    with mpl.rc_context({"svg.hashsalt": "liftquant", "svg.fonttype": "path", "font.size": 8}):
        size = (3.2 * len(question.gpus) + 0.4, 2.7 * len(question.models) + 1.0)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(question.models), len(question.gpus), squeeze=False)
        seen: dict[str, Line2D] = {}
        for panels, model in zip(grid, question.models, strict=True):
            for axes, gpu in zip(panels, question.gpus, strict=True):
                seen |= _panel(axes, question, model, gpu)
        figure.suptitle(
            f"Tokens per second at batch {question.how.batch}: {NOTE}\nband: pessimistic to "
            "optimistic; points and dashed line: published by others for models of that size, "
            "hollow: on another card (RTX 6000 Ada, A100 40GB)",
            fontsize=9,
        )
        order = sorted(seen, key=lambda name: (not name.startswith("ours"), name))
        figure.legend(
            [seen[name] for name in order], order, frameon=False, loc="outside lower center",
            ncols=2 * len(question.gpus),
        )  # fmt: skip
        with written_aside(path) as aside:
            figure.savefig(aside, format="svg", metadata={"Date": None})


def _panel(axes: Axes, question: Question, model: str, gpu: str) -> dict[str, Line2D]:
    """One model on one GPU; what is to stand in the legend."""
    speeds = [question.speed(model, gpu, bits) for bits in RATES]
    low, middle, high = ([s.tokens_per_second[name] for s in speeds] for name in SCENARIOS)
    axes.fill_between(RATES, low, high, color=_OURS, alpha=0.15, linewidth=0)
    fitting = sum(speed.fits for speed in speeds)  # fewer bits always fit first
    lines = {
        "ours, expected": (RATES[:fitting], middle[:fitting], "-"),
        "ours, does not fit": (
            RATES[max(0, fitting - 1) :], middle[max(0, fitting - 1) :], ":"
        ),
    }  # fmt: skip
    seen = {}
    for name, (bits, speed, style) in lines.items():
        if len(bits) > 1:
            (seen[name],) = axes.plot(bits, speed, style, color=_OURS, linewidth=1.4)
    figures = question.beside(model, gpu)
    seen |= _points(axes, [f for f in figures if f.bits <= _HIGHEST], gpu)
    dense = [f.tokens_per_second for f in figures if f.method == "fp16" and f.gpu == gpu]
    if dense:
        seen["fp16"] = axes.axhline(max(dense), color="#666666", linewidth=0.9, linestyle="--")
    if not figures and model in MODELS:
        axes.annotate(
            "no published figure found", (0.97, 0.04), xycoords="axes fraction", ha="right"
        )
    axes.set(title=f"{model}, {question.gpus[gpu].name}", xlim=(RATES[0] - 0.1, _RIGHT))
    axes.set_ylim(bottom=0)
    axes.title.set_fontsize(9)
    axes.set_xlabel("bits per weight")
    axes.set_ylabel("tokens per second")
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return seen


def _points(axes: Axes, figures: list[Published], gpu: str) -> dict[str, Line2D]:
    """Published figures; hollow where the card is another one near this."""
    seen = {}
    for figure in figures:
        method = figure.method.partition(" ")[0]
        colour, marker = _LOOKS.get(method, list(_LOOKS.values())[-1])
        near = figure.gpu != gpu
        (drawn,) = axes.plot(
            [figure.bits], [figure.tokens_per_second], linestyle="", marker=marker, color=colour,
            markersize=4.5, markerfacecolor="white" if near else colour, zorder=3,
        )  # fmt: skip
        seen[method] = drawn
    return seen
