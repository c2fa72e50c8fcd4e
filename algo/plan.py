"""The highest bit-width at which a model fits a memory budget.

Uniform: the highest rate R for all layers. Allocated: R and the next higher rate, the higher given
to one input group after another until no further group fits. Without weights there is no
sensitivity to go by, so the order is a neutral one: the first and the last block, then the down
projections, then everything else, each from the outer blocks inwards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from algo.assumptions import assumptions
from algo.budget import Budget, Memory, embedding_bytes, run_memory
from algo.code import LiftCode, sliding_shifts
from algo.errors import LiftError
from algo.footprint import Footprint, Layout, checkpoint_footprint, input_groups
from algo.quantise import block_files
from algo.shapes import ModelShapes, config_shapes, source_shapes
from algo.shipped import best_code, shipped_codes
from algo.sizes import format_size
from algo.source import Source

RATES: tuple[float, ...] = tuple(tenths / 10 for tenths in range(15, 41))
_WINDOW = 12  # of codes that are planned for and not shipped


@dataclass(frozen=True)
class Choice:
    """One way to fill the budget.

    Attributes:
        rate: bits per weight of the codes, averaged over the weights.
        bits_per_weight: what is stored for the layers: words with their padding, scales, whitening.
        memory: bytes on the GPU, by part.
        left_bytes: of the budget.
        checkpoint: bytes on disk.
        groups: for every code, the input groups that have it, each named by its first layer.
    """

    rate: float
    bits_per_weight: float
    memory: Memory
    left_bytes: int
    checkpoint: Footprint
    groups: Mapping[str, list[str]]


@dataclass(frozen=True)
class Plan:
    """What fits; `host_bytes` is what stays in the host's memory."""

    budget: Budget
    layout: Layout
    weights: int
    uniform: Choice
    allocated: Choice
    host_bytes: int
    assumptions: tuple[str, ...]


@cache
def rate_code(rate: float) -> LiftCode:
    """The code to plan with: the best shipped one of a rate, else an untrained one.

    Sizes depend on D, d and V only. The untrained one has the smallest D/d of the rate, a window of
    12 bits, and taps of zero: it can be counted, and would decode to nothing.
    """
    if any(abs(rate - shipped) < 1e-9 for shipped in shipped_rates()):
        return best_code(rate)
    ratio = Fraction(rate).limit_denominator(16)
    shifts = sliding_shifts(ratio.numerator, ratio.denominator)
    overlap = _WINDOW - shifts[-1]
    taps = np.zeros((ratio.denominator, ratio.numerator + overlap), np.int8)
    return LiftCode(ratio.numerator, ratio.denominator, overlap, shifts, taps, 0)


def shipped_rates() -> tuple[float, ...]:
    """The rates that `quantize` has codes for, ascending."""
    return tuple(sorted({shipped.code.rate for shipped in shipped_codes().values()}))


def model_shapes(model: Any) -> ModelShapes:
    """Shapes of a `Source` or of a transformers config; shapes are returned as they are."""
    if isinstance(model, ModelShapes):
        return model
    if isinstance(model, Source):
        return source_shapes(model)
    import torch

    stated = getattr(model, "dtype", None)
    known = isinstance(stated, torch.dtype)
    return config_shapes(
        model,
        stated if isinstance(stated, torch.dtype) else torch.bfloat16,
        "config.json says so" if known else "config.json says nothing",
    )


def upgrade_order(linears: Mapping[str, tuple[int, int]]) -> list[list[str]]:
    """Input groups in the order in which they get the higher rate."""
    blocks = list(block_files(list(linears)).values())
    place = {name: i for i, block in enumerate(blocks) for name in block}

    def key(group: list[str]) -> tuple[bool, bool, int]:
        depth = min(place[group[0]], len(blocks) - 1 - place[group[0]])
        down = group[0].rpartition(".")[2] in ("down_proj", "fc2", "w2")
        return depth > 0, not down, depth

    return sorted(input_groups(linears).values(), key=key)


def _choice(
    shapes: ModelShapes, codes: Mapping[str, LiftCode], layout: Layout, budget: Budget
) -> Choice:
    memory = run_memory(shapes, codes, layout, budget)
    coded = sum(  # exact, so that a uniform rate is the code's own
        Fraction(rows * columns * codes[name].lifted, codes[name].group)
        for name, (rows, columns) in shapes.linears.items()
    )
    groups: dict[str, list[str]] = {}
    for leader in input_groups(shapes.linears):
        groups.setdefault(codes[leader].name, []).append(leader)
    stored = memory.words + memory.scales + memory.transforms
    return Choice(
        rate=float(coded / shapes.weights),
        bits_per_weight=stored * 8 / shapes.weights,
        memory=memory,
        left_bytes=budget.total_bytes - memory.total,
        checkpoint=checkpoint_footprint(shapes.linears, shapes.carried, codes, layout),
        groups=groups,
    )


def _uniform(shapes: ModelShapes, rate: float) -> dict[str, LiftCode]:
    return dict.fromkeys(shapes.linears, rate_code(rate))


def _needed(shapes: ModelShapes, rate: float, layout: Layout, budget: Budget) -> int:
    return run_memory(shapes, _uniform(shapes, rate), layout, budget).total


def _highest(shapes: ModelShapes, rates: Sequence[float], layout: Layout, budget: Budget) -> float:
    """The highest of ascending rates that fits."""
    for rate in reversed(rates):
        if _needed(shapes, rate, layout, budget) <= budget.total_bytes:
            return rate
    raise _too_large(shapes, rates[0], layout, budget)


def _too_large(shapes: ModelShapes, rate: float, layout: Layout, budget: Budget) -> LiftError:
    """By how much the model is too large at a rate, and what each remedy would give."""
    needed = _needed(shapes, rate, layout, budget)
    tied = shapes.head is None
    remedies = {
        "--kv-bits 8": replace(budget, kv_bits=min(8, budget.kv_bits)),
        "--head-bits 8": replace(budget, head_bits=min(8, budget.head_bits)),
        "--embedding-bits 8": replace(budget, embedding_bits=min(8, budget.embedding_bits)),
        "--embedding host": budget if tied else replace(budget, embedding="host"),
        "half the context": replace(budget, context=max(1, budget.context // 2)),
        "--batch 1": replace(budget, batch=1),
    }
    saved = {
        remedy: needed - _needed(shapes, rate, layout, changed)
        for remedy, changed in remedies.items()
    }
    advice = ", ".join(f"{r} saves {format_size(s)}" for r, s in saved.items() if s > 0)
    over = needed - budget.total_bytes
    return LiftError(
        f"at {rate:g} bits the model takes {format_size(needed)}, {format_size(over)} more than "
        f"the {format_size(budget.total_bytes)} there are" + (f"; {advice}" if advice else "")
    )


def _allocate(
    shapes: ModelShapes, low: float, high: float, layout: Layout, budget: Budget
) -> dict[str, LiftCode]:
    """The lower rate everywhere, the higher one for as many groups as fit."""
    codes = _uniform(shapes, low)
    for group in upgrade_order(shapes.linears):
        trial = {**codes, **dict.fromkeys(group, rate_code(high))}
        if run_memory(shapes, trial, layout, budget).total <= budget.total_bytes:
            codes = trial
    return codes


def plan_model(
    model: Any, budget: Budget, layout: Layout | None = None, bits: float | None = None
) -> Plan:
    """The highest rates that fit, and where every byte goes.

    Args:
        model: `ModelShapes`, a `Source`, or a transformers config.
        budget: the memory and what is to be done in it.
        layout: how the checkpoint is laid out; the defaults of `Layout` where it is None.
        bits: one of `RATES` to plan for in place of the highest; what it leaves is allocated.

    Raises:
        LiftError: it does not fit at the lowest rate, or at `bits`; the message says by how much.
    """
    layout = layout or Layout()
    shapes = model_shapes(model)
    rates = [rate for rate in RATES if bits is None or abs(rate - bits) < 1e-9]
    if not rates:
        raise LiftError(f"{bits:g} bits per weight is not one of {RATES[0]:g}, ..., {RATES[-1]:g}")
    rate = _highest(shapes, rates, layout, budget)
    higher = [r for r in RATES if r > rate]
    uniform = _choice(shapes, _uniform(shapes, rate), layout, budget)
    mixed = _allocate(shapes, rate, higher[0], layout, budget) if higher else None
    allocated = uniform if mixed is None else _choice(shapes, mixed, layout, budget)
    return Plan(
        budget=budget,
        layout=layout,
        weights=shapes.weights,
        uniform=uniform,
        allocated=allocated,
        host_bytes=embedding_bytes(shapes, budget) if budget.embedding == "host" else 0,
        assumptions=tuple(assumptions(shapes, budget)),
    )


def bits_that_fit(model: Any, budget: Budget, layout: Layout | None = None) -> float:
    """The highest rate of a shipped code at which every layer fits: bits for `quantize`.

    Args:
        model: `ModelShapes`, a `Source`, or a transformers config.
        budget: the memory and what is to be done in it.
        layout: how the checkpoint is laid out.

    Raises:
        LiftError: not even the lowest rate fits; the message says by how much and what would help.
    """
    return _highest(model_shapes(model), shipped_rates(), layout or Layout(), budget)
