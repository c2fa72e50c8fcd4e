"""The sum behind one weight, drawn: features, tables, adders and their registers."""

from dataclasses import dataclass

from algo.code import LiftCode
from hw.architecture import Architecture
from hw.geometry import Geometry
from hw.output import ACC_WIDTH
from hw.svg import FAINT, INK, TINTS, Drawing, text_width
from hw.terms import (
    adder_ranks,
    projection_stages,
    reads_parities,
    step_features,
    stepped_terms,
    weight_terms,
)

_WIDEST = 960  # of the row of features
_CELL, _STEP, _BOX = 34, 46, 24
_TEXT, _SMALL = 11, 9
_REGISTER = "#2f6db3"


@dataclass(frozen=True)
class _Leaf:
    """A table or signed tap: what its features are called, and what is written into it."""

    features: tuple[str, ...]
    text: str


def draw_sum(drawing: Drawing, geometry: Geometry, left: float, y: float) -> tuple[float, float]:
    """Draw the sum of the weight that has most terms; returns the right and the lower end."""
    code, architecture = geometry.code, geometry.architecture
    leaves, heading = _leaves(code, architecture)
    drawing.text(left, y, heading, _TEXT, bold=True)
    right = left + text_width(heading, _TEXT)
    y += 14
    count = sum(len(leaf.features) for leaf in leaves)
    cell = min(_CELL, _WIDEST / max(1, count))
    right = max(right, left + cell * count)
    centres = []
    x = left
    held = architecture.kind != "shared" and reads_parities(code, architecture.inputs)
    behind = architecture.kind != "tree" or not adder_ranks(code, architecture)
    for leaf in leaves:
        start = x
        for feature in leaf.features:
            drawing.box(x + 1, y, cell - 2, 20, TINTS[1] if feature == "⊕" else TINTS[0])
            drawing.text(x + cell / 2, y + 14, feature, _SMALL, "middle")
            if held:
                _register(drawing, x + cell / 2, y + 23, cell - 4)
            drawing.arrow((x + cell / 2, y + (25 if held else 20)), (x + cell / 2, y + 44))
            x += cell
        middle, width = (start + x) / 2, x - start - 2
        drawing.box(start + 1, y + 44, width, 22, TINTS[2], FAINT)
        text = leaf.text if text_width(leaf.text, _SMALL) < width else leaf.text[:1]
        drawing.text(middle, y + 59, text, _SMALL, "middle")
        if behind:
            _register(drawing, middle, y + 69, width - 2)
        centres.append(middle)
    y += 72
    for registered in _levels(architecture, code, len(leaves)):
        centres = _adders(drawing, centres, y - (1 if behind else 6), y, registered)
        behind = registered
        y += _STEP
    if architecture.kind == "shared":
        y = _accumulator(drawing, centres[0], y, architecture.cycles)
    if centres:
        drawing.arrow((centres[0], y - 1), (centres[0], y + 26))
        text = f"its sum: {ACC_WIDTH} bits with the lowest, which is constant"
        drawing.text(centres[0] + 8, y + 20, text, _SMALL)
        right = max(right, centres[0] + 8 + text_width(text, _SMALL))
        y += 26
    y += 22
    _register(drawing, left + 12, y - 4, 22)
    stages = projection_stages(code, architecture)
    queue = ", and one through its queue" * geometry.queued
    text = f"a register; {stages} cycles through the projection{queue}"
    drawing.text(left + 30, y, text, _SMALL, colour=FAINT)
    return right + left, y


def _leaves(code: LiftCode, architecture: Architecture) -> tuple[list[_Leaf], str]:
    """The leaves of the weight that has most of them, and a line on what is drawn."""
    if architecture.kind == "shared":
        stepped = stepped_terms(code, architecture.inputs, architecture.cycles)[0]
        bits = -(-code.window // architecture.cycles)
        names = ["bit"] * bits + ["⊕"] * (step_features(code, architecture.cycles) - bits)
        leaves = [_Leaf(tuple(names[t.first : t.first + t.inputs]), "ROM") for t in stepped.tables]
        return leaves, (
            f"one weight, one of {architecture.cycles} steps: the features that are next in shift "
            "registers, tables by them and the step"
        )
    weights = weight_terms(code, architecture.inputs)
    row = max(range(code.group), key=lambda i: len(weights[i].tables))
    leaves = []
    for table in weights[row].tables:
        names = [str(f[0]) if len(f) == 1 else "⊕" for f in table.features]
        text = "±tap" if architecture.kind == "tree" else f"ROM {len(table.values)}"
        leaves.append(_Leaf(tuple(names), text))
    span = f"bits {code.starts[row]}–{code.starts[row] + code.window - 1} of its group's window"
    count = sum(leaf.features.count("⊕") for leaf in leaves)
    parities = f", XORs (⊕) of some of them: {count}" * bool(count)
    taps = code.window_taps[row]
    inside = int((taps[code.window :] != 0).sum()) - count
    parities += f", parities that tables take in: {inside}" * bool(inside)
    parities += "; taps of 0 are left out" * bool((taps == 0).any())
    return leaves, f"weight {row} of a group: {span}{parities}"


def _levels(architecture: Architecture, code: LiftCode, leaves: int) -> list[bool]:
    """For every level of adders, whether registers follow it."""
    levels: list[bool] = []
    for _ in range(adder_ranks(code, architecture)):
        for _ in range(architecture.levels - 1):
            if leaves <= 2:
                break
            leaves = -(-leaves // 2)
            levels.append(False)
        leaves = -(-leaves // 2)
        levels.append(True)
    return levels


def _adders(
    drawing: Drawing, centres: list[float], top: float, y: float, registered: bool
) -> list[float]:
    """One level of the tree, around y, fed from `top`; returns where its sums come out."""
    out = []
    for at in range(0, len(centres), 2):
        pair = centres[at : at + 2]
        middle = sum(pair) / len(pair)
        if len(pair) == 1:
            drawing.line([(middle, top), (middle, y + (43 if registered else 40))])
        else:
            for source, side in zip(pair, (-5, 5), strict=True):
                turn = y + 12
                points = [(source, top), (source, turn), (middle + side, turn)]
                drawing.line(points)
                drawing.arrow((middle + side, turn), (middle + side, y + 20))
            drawing.box(middle - _BOX / 2, y + 20, _BOX, 20, TINTS[3], FAINT)
            drawing.text(middle, y + 34, "+", _TEXT, "middle", INK, True)
        if registered:
            _register(drawing, middle, y + 43, _BOX)
        out.append(middle)
    return out


def _accumulator(drawing: Drawing, x: float, y: float, steps: int) -> float:
    """The adder that adds up the steps, its register and the way back."""
    drawing.line([(x, y - 1), (x, y + 6), (x - 5, y + 6)])
    drawing.arrow((x - 5, y + 6), (x - 5, y + 20))
    drawing.box(x - _BOX / 2, y + 20, _BOX, 20, TINTS[3], FAINT)
    drawing.text(x, y + 34, "+", _TEXT, "middle", INK, True)
    _register(drawing, x, y + 43, _BOX)
    drawing.line([(x, y + 45), (x, y + 52), (x + 30, y + 52), (x + 30, y + 12), (x + 5, y + 12)])
    drawing.arrow((x + 5, y + 12), (x + 5, y + 20))
    drawing.text(x + 36, y + 34, f"adds up {steps} steps", _SMALL)
    return y + 52


def _register(drawing: Drawing, x: float, y: float, width: float) -> None:
    drawing.line([(x - width / 2, y), (x + width / 2, y)], _REGISTER, 4)
