"""From what a user asks for to a recipe: which code for which layer."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from algo.errors import LiftError
from algo.matrix import Axis

if TYPE_CHECKING:
    from algo.calibrated import Calibration
    from algo.quantise import Recipe
    from algo.source import Source

SENSITIVITY_WINDOWS = 8  # gradients are taken over so many of the calibration windows
_RATE_SPAN = 1.0  # an allocation looks at rates at most so far from the average


@dataclass(frozen=True)
class Wish:
    """What to quantise to.

    Attributes:
        bits: average bits per weight, before padding and scales.
        window: L of the codes.
        parities: whether codes with parities may be taken.
        axis: direction of the streams.
        seed: of the whitening.
        allocated: whether layers get rates by their sensitivity, `bits` on average.
    """

    bits: float
    window: int = 12
    parities: bool = True
    axis: Axis = "out"
    seed: int = 0
    allocated: bool = True


def check_rate(wish: Wish) -> None:
    """Raise LiftError where no codes can make up a rate, before any work is done."""
    from algo.shipped import best_code, rates

    offered = rates(wish.window, wish.parities)
    if not wish.allocated or not offered:
        best_code(wish.bits, wish.window, wish.parities)
    elif not offered[0] <= wish.bits <= offered[-1]:
        raise LiftError(
            f"{wish.bits:g} bits per weight are outside what the shipped codes of window "
            f"{wish.window} offer, {offered[0]:g} to {offered[-1]:g}"
        )


def make_recipe(
    source: "Source",
    wish: Wish,
    calibration: "Calibration | None",
    on_progress: Callable[[float], None] | None = None,
    folder: Path | None = None,
) -> "Recipe":
    """The recipe for a wish; an allocation runs the model over some of the calibration text.

    Args:
        source: the model.
        wish: what is asked for.
        calibration: text and settings; None rounds to nearest, with one code for all layers.
        on_progress: told the finished part of the sensitivities since the last call.
        folder: the checkpoint to be; keeps the sensitivities until it is finished.

    Raises:
        LiftError: no code has the rate, or an allocation is asked for without calibration.
    """
    from algo.allocate import allocate
    from algo.manifest import SENSITIVITIES
    from algo.quantise import Recipe
    from algo.sensitivity import InputGroup, kept_sensitivities, sensitivities
    from algo.shipped import best_code, fitting_codes
    from algo.staged import StagedModel
    from algo.whitening import random_whitening

    if not wish.allocated or calibration is None:
        code = best_code(wish.bits, wish.window, wish.parities)
        return Recipe(code, wish.axis, wish.seed, calibration)
    check_rate(wish)
    windows = calibration.windows[:SENSITIVITY_WINDOWS]

    def find() -> list[InputGroup]:
        staged = StagedModel(source, windows, calibration.batch)
        return sensitivities(
            staged, calibration, lambda n: random_whitening(n, wish.seed), wish.seed,
            None if on_progress is None else lambda n: on_progress(n / (2 * len(staged.blocks))),
        )  # fmt: skip

    if folder is None:
        groups = find()
    else:
        depends = {
            "weights": source.fingerprint(), "seed": wish.seed,
            "calibration": replace(calibration, windows=windows).settings(),
        }  # fmt: skip
        groups = kept_sensitivities(folder / SENSITIVITIES, depends, find)
    near = [
        shipped
        for shipped in fitting_codes(wish.window, wish.parities)
        if abs(shipped.code.rate - wish.bits) <= _RATE_SPAN + 1e-9
    ]
    shapes = {}
    for name, weight in source.linear_weights():
        rows, columns = weight.shape
        shapes[name] = (int(rows), int(columns))
    codes = allocate(groups, shapes, near, wish.axis, wish.bits)
    nearest = min(near, key=lambda c: (abs(c.code.rate - wish.bits), c.mse)).code
    return Recipe(nearest, wish.axis, wish.seed, calibration, codes)


def fitting_bits(source: "Source", memory: str, context: int) -> float:
    """The highest rate at which a model fits a memory; as `liftquant plan` finds it.

    Args:
        source: the model.
        memory: a size such as ``24GiB``.
        context: tokens the KV cache holds.
    """
    from algo.budget import Budget
    from algo.plan import bits_that_fit
    from algo.sizes import parse_size

    return bits_that_fit(source, Budget(parse_size(memory), context))
