"""Which code for which layer: the least predicted loss whose real bytes meet a budget.

The loss of a group of layers is its sensitivity times the code's mean squared error. Both fall and
rise convexly with the rate, near enough that steps taken in the order of loss saved per byte, along
the lower convex hull of every group, are the best there is (Everett 1963) up to the last step.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from algo.code import LiftCode
from algo.errors import LiftError
from algo.matrix import Axis, layer_word_shape
from algo.packing import WORD
from algo.sensitivity import InputGroup
from algo.shipped import ShippedCode


@dataclass(frozen=True)
class _Choice:
    bits: int
    loss: float
    code: LiftCode


def _stored_bits(layer: str, shape: tuple[int, int], code: LiftCode, axis: Axis) -> int:
    """Bits of a layer's packed words, padding included."""
    return math.prod(layer_word_shape(layer, shape, code, axis)) * WORD


def _hull(choices: list[_Choice]) -> list[_Choice]:
    """The lower convex hull of loss over bits, from the fewest bits on."""
    hull: list[_Choice] = []
    for choice in sorted(choices, key=lambda c: (c.bits, c.loss)):
        if hull and choice.loss >= hull[-1].loss:
            continue
        while len(hull) > 1 and _slope(hull[-2], choice) >= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(choice)
    return hull


def _slope(a: _Choice, b: _Choice) -> float:
    """Loss saved per bit on the way from `a` to `b`."""
    return (a.loss - b.loss) / (b.bits - a.bits)


def allocate(
    groups: Sequence[InputGroup],
    shapes: Mapping[str, tuple[int, int]],
    codes: Sequence[ShippedCode],
    axis: Axis,
    bits: float,
) -> dict[str, LiftCode]:
    """A code for every layer, so that packed words average at most `bits` per weight nominally.

    Streams are padded to whole words, which a rate in its name does not show; the budget is what a
    model of the same shapes takes at a uniform `bits`, as far as its padding can be told: the words
    of the codes of the nearest rates, interpolated.

    Args:
        groups: sensitivities; layers of a group get one code.
        shapes: (outputs, inputs) by layer.
        codes: what there is to choose from, with their measured errors.
        axis: direction of the streams.
        bits: rate to meet.

    Raises:
        LiftError: `bits` is outside the rates of the codes, or a layer too narrow for one.
    """
    choices = [
        _hull([
            _Choice(
                sum(_stored_bits(layer, shapes[layer], c.code, axis) for layer in group.layers),
                group.sensitivity * c.mse,
                c.code,
            )
            for c in codes
        ])
        for group in groups
    ]  # fmt: skip
    budget = uniform_bits(shapes, codes, axis, bits)
    chosen = [0] * len(groups)
    spent = sum(hull[0].bits for hull in choices)
    steps = [(-_slope(hull[0], hull[1]), i) for i, hull in enumerate(choices) if len(hull) > 1]
    heapq.heapify(steps)
    while steps:
        _, i = heapq.heappop(steps)
        hull, at = choices[i], chosen[i]
        more = hull[at + 1].bits - hull[at].bits
        if spent + more > budget:
            continue  # a cheaper group may still fit
        spent += more
        chosen[i] = at + 1
        if at + 2 < len(hull):
            heapq.heappush(steps, (-_slope(hull[at + 1], hull[at + 2]), i))
    return {
        layer: choices[i][chosen[i]].code
        for i, group in enumerate(groups)
        for layer in group.layers
    }


def uniform_bits(
    shapes: Mapping[str, tuple[int, int]], codes: Sequence[ShippedCode], axis: Axis, bits: float
) -> float:
    """Bits of all layers' words at one rate; between two codes' rates, in proportion."""
    totals = sorted(
        (c.code.rate, sum(_stored_bits(n, shape, c.code, axis) for n, shape in shapes.items()))
        for c in codes
    )
    below = [t for t in totals if t[0] <= bits + 1e-9]
    above = [t for t in totals if t[0] >= bits - 1e-9]
    if not below or not above:
        rates = f"{totals[0][0]:g} to {totals[-1][0]:g}"
        raise LiftError(f"{bits:g} bits per weight are outside what the codes offer, {rates}")
    (low, least), (high, most) = below[-1], above[0]
    share = 0.0 if high == low else (bits - low) / (high - low)
    return least + share * (most - least)
