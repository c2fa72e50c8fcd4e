"""Correction of a block: what its layers' errors did together is trained away.

Row scales, input scales and, if wanted, signs are moved so that the quantised block, given what the
quantised model feeds it, puts out what the original puts out (LiftQuant, arXiv 2606.04050,
section 3.4).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from algo.layer import replace_layers
from algo.staged import Hidden, StagedModel
from algo.tunable import TunableLinear, tunable_layers

if TYPE_CHECKING:
    from algo.calibrated import QuantisedBlock


# how far a latent moves that is always pushed one way, where 1 is to the flip of its sign
_REACH = 1.5
_LATENT_STEP = 0.2  # at most: a sign is to be pushed more than once before it flips


@dataclass(frozen=True)
class Correction:
    """Settings.

    Attributes:
        epochs: passes over the calibration windows.
        rate: learning rate of Adam for the logarithms of the scales.
        signs: whether the signs are trained too.
    """

    epochs: int = 2
    rate: float = 2e-3
    signs: bool = False


def correct_block(
    staged: StagedModel, name: str, block: nn.Module, made: "QuantisedBlock",
    hidden: Hidden, targets: Hidden, settings: Correction,
    on_step: Callable[[], None] | None = None,
) -> "QuantisedBlock":  # fmt: skip
    """Train a quantised block towards the original's outputs.

    Args:
        staged: how to run the block.
        name: the block.
        block: a copy of it; its linear layers are replaced.
        made: its layers in low-bit form.
        hidden: inputs, batch by batch, from the quantised model.
        targets: outputs of the original block for the original's inputs.
        settings: how long and how fast.
        on_step: called after every step.

    Returns:
        The block with its scales (and signs) trained; as it was where training did not help.
    """
    biases = {m: block.get_submodule(m.removeprefix(f"{name}.")).bias for m in made.matrices}
    layers = _trainable(made, biases, settings.signs)  # type: ignore[arg-type]
    replace_layers(block, _inside(name, layers))
    slow = [p for layer in layers.values() for n, p in layer.named_parameters() if n == "latent"]
    fast = {id(p): p for layer in layers.values() for p in layer.parameters()}
    for p in slow:
        del fast[id(p)]
    groups = [{"params": list(fast.values()), "lr": settings.rate}]
    steps = settings.epochs * len(hidden)
    if slow:  # latents start at 1, and a step of Adam is about its rate, which falls to zero
        groups.append({"params": slow, "lr": min(_LATENT_STEP, 2 * _REACH / (steps + 1))})
    adam = torch.optim.Adam(groups)
    decay = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / steps)
    before = _loss(staged, name, block, hidden, targets)
    for _ in range(settings.epochs):
        for x, wanted in zip(hidden, targets, strict=True):
            adam.zero_grad()
            miss = staged.run(name, block, x) - wanted
            miss.square().mean().backward()  # type: ignore[no-untyped-call]
            adam.step()
            decay.step()
            if on_step:
                on_step()
    if not _loss(staged, name, block, hidden, targets) < before:  # or it is not a number
        return made
    trained = replace(
        made,
        matrices={m: layer.stored() for m, layer in layers.items()},
        whitenings={
            group[0]: layers[group[0]].inputs.stored(made.whitenings[group[0]])
            for group in made.groups
        },
    )
    # what counts is what is stored, rounded
    stored = _trainable(trained, biases)  # type: ignore[arg-type]
    replace_layers(block, _inside(name, stored))
    return trained if _loss(staged, name, block, hidden, targets) < before else made


def _inside(name: str, layers: Mapping[str, TunableLinear]) -> dict[str, TunableLinear]:
    """Layers of a block under the names they have in it."""
    return {layer.removeprefix(f"{name}."): module for layer, module in layers.items()}


def _trainable(
    made: "QuantisedBlock", biases: Mapping[str, torch.Tensor | None], signs: bool = False
) -> dict[str, TunableLinear]:
    shared = {m: made.whitenings[group[0]] for group in made.groups for m in group}
    return tunable_layers(made.matrices, shared, biases, signs)


def _loss(
    staged: StagedModel, name: str, block: nn.Module, hidden: Hidden, targets: Hidden
) -> float:
    with torch.no_grad():
        return sum(
            float((staged.run(name, block, x) - wanted).square().mean())
            for x, wanted in zip(hidden, targets, strict=True)
        )
