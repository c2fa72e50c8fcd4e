"""``liftquant codes plot``: every code, what it is compared with, and the bound, in one picture."""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from liftquant.console import err, print_json

if TYPE_CHECKING:
    from algo.shipped import ShippedCode

# published or measured elsewhere: (name, bits, MSE, where the figure is from)
_CITED = [
    ("LQ-32/16", 2.0, 0.082, "LiftQuant, arXiv 2606.04050"),
    ("E8P", 2.0, 0.089, "QuIP#, arXiv 2402.04396; measured on N(0, 1)"),
]
_NEAR = 2.0  # dB shown in the lower panel; integers are farther off, and labelled in the upper
_CELLS = "parities in cells, windows 4 to 16"
_STYLE = {  # family: colour, marker
    "window 8": ("#9ecae1", "v"),
    "window 12": ("#4292c6", "s"),
    "window 16": ("#08519c", "o"),
    "window 8, parities": ("#fdae6b", "v"),
    "window 12, parities": ("#e6550d", "s"),
    "window 16, parities": ("#a63603", "o"),
    _CELLS: ("#8c2d6b", "P"),
    "block codes": ("#636363", "D"),
    "cited": ("#756bb1", "*"),
    "uniform integers": ("#31a354", "X"),
}


def _family(shipped: "ShippedCode") -> str:
    code = shipped.code
    if not code.overlap:
        return "block codes"
    if code.cells > 1 or code.window < 8:
        return _CELLS
    return f"window {code.window}" + ("" if shipped.linear else ", parities")


def _point(name: str, rate: float, mse: float, source: str) -> dict[str, Any]:
    import math

    return {
        "name": name,
        "rate": rate,
        "mse": mse,
        "gap_db": 10 * math.log10(mse * 4**rate),
        "source": source,
    }


def plot_data() -> dict[str, list[dict[str, Any]]]:
    """The points of every family: name, rate, mse, gap_db and source, by rate."""
    from algo.shipped import shipped_codes
    from algo.uniform import uniform_mse

    families: dict[str, list[dict[str, Any]]] = {name: [] for name in _STYLE}
    for shipped in shipped_codes().values():
        point = _point(shipped.code.name, shipped.code.rate, shipped.mse, "shipped record")
        families.setdefault(_family(shipped), []).append(point)
    families["cited"] = [_point(*cited) for cited in _CITED]
    families["uniform integers"] = [
        _point(f"INT{bits}", bits, uniform_mse(bits), "least MSE on N(0, 1), computed")
        for bits in (2, 3, 4)
    ]
    return {
        name: sorted(points, key=lambda p: (p["rate"], p["mse"]))
        for name, points in families.items()
        if points
    }


def _broken(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points with a gap wherever rates between two of them are missing."""
    nothing = dict.fromkeys(("rate", "mse", "gap_db"), float("nan"))
    out = points[:1]
    for before, point in pairwise(points):
        out += [point] if point["rate"] - before["rate"] < 0.15 else [nothing, point]
    return out


def draw(families: dict[str, list[dict[str, Any]]], path: Path, kind: str) -> None:
    """Draw MSE and gap against rate; `kind` is svg or png. The same data give the same file."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "liftquant", "svg.fonttype": "path", "font.size": 9}):
        figure = Figure(figsize=(11, 9.5), layout="constrained")
        upper, lower = figure.subplots(2, 1, height_ratios=(2, 3), sharex=True)
        for name, points in families.items():
            colour, marker = _STYLE.get(name, ("black", "."))
            look: dict[str, Any] = {
                "linestyle": "-" if name.startswith("window") else "",
                "marker": marker,
                "markersize": 9 if marker == "*" else 5,
                "linewidth": 1,
                "color": colour,
                "label": name,
            }
            line = _broken(points)
            upper.plot([p["rate"] for p in line], [p["mse"] for p in line], **look)
            lower.plot([p["rate"] for p in line], [p["gap_db"] for p in line], **look)
            for p in [] if look["linestyle"] or name == _CELLS else points:
                axes, key = (lower, "gap_db") if p["gap_db"] < _NEAR else (upper, "mse")
                left = name == "cited"  # at 2 bits, where a block code's label takes the right
                axes.annotate(
                    p["name"], (p["rate"], p[key]), (-8 if left else 8, 0), va="center",
                    ha="right" if left else "left", textcoords="offset points", color=colour,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
                )  # fmt: skip
        every = [p["rate"] for points in families.values() for p in points]
        ends = [min(every), max(every)]
        upper.plot(ends, [4.0**-rate for rate in ends], "--", color="black", label="bound")
        lower.axhline(0, linestyle="--", color="black", label="bound")
        upper.set(yscale="log", ylabel="MSE on N(0, 1)")
        lower.set(xlabel="bits per weight", ylabel="dB over Shannon's bound 2^(-2 bits)")
        lower.set_ylim(0, _NEAR)
        lower.set_yticks([k / 4 for k in range(int(4 * _NEAR) + 1)])
        lower.set_xticks([k / 4 for k in range(int(4 * ends[0]), int(4 * ends[1]) + 1)])
        for axes in (upper, lower):
            axes.grid(color="#dddddd")
        upper.legend(loc="upper right", ncols=2)
        metadata = {"Date": None} if kind == "svg" else None  # PNG files hold no date
        figure.savefig(path, format=kind, dpi=120, metadata=metadata)


def plot_codes(
    output: Annotated[Path, typer.Argument(help="The picture to write: .svg or .png.")],
    json: Annotated[bool, typer.Option("--json", help="Print the points as JSON.")] = False,
) -> None:
    """Draw MSE and gap of all codes against their rate, beside other formats and the bound."""
    from algo.errors import LiftError
    from algo.files import written_aside

    if output.suffix not in (".svg", ".png"):
        raise LiftError(f"{output}: the picture's name must end in .svg or .png")
    families = plot_data()
    with written_aside(output) as temporary:
        draw(families, temporary, output.suffix[1:])
    if json:
        print_json(families)
    err.print(f"{output}: {sum(map(len, families.values()))} points", soft_wrap=True)
