"""How much the model's output suffers from an error in each layer, predicted before quantising.

For a layer with inputs x, weights W and errors D of its outputs ``D x``, the divergence of the
model's predictions grows by ``1/2 E[sum_r (g_r D_r x)^2]``, g being the gradient of the
log-likelihood of tokens drawn from the model itself (Fisher information). With feedback, and codes
of mean squared error m on a unit source, that is ``1/2 m sum_r F_r sum_j cost_j W'_rj^2``: W' are
the whitened weights, ``F_r = E[g_r^2]`` and `cost_j` from `algo.feedback`.

Gradients go back block by block, each recomputed from its stored input, so only one block's weights
are in memory at a time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import nn

from algo.calibrated import Calibration, Moments, layer_weight, scaled_whitening
from algo.errors import LiftError
from algo.feedback import damped, feedback_factors
from algo.files import read_json, write_json
from algo.staged import Hidden, StagedModel
from algo.whitening import Whitening


@dataclass(frozen=True)
class InputGroup:
    """Layers that share an input, to be given one code.

    Attributes:
        layers: in the order of the forward pass.
        sensitivity: what a code's mean squared error is multiplied by to predict the group's
            share of the divergence, in nats per token.
    """

    layers: tuple[str, ...]
    sensitivity: float


class _Kept(BaseModel):
    """What a file of sensitivities holds."""

    settings: dict[str, Any]
    groups: list[InputGroup]


class _Watch:
    """Moments of the inputs and squared gradients of the outputs of a block's layers."""

    def __init__(self, layers: list[str]) -> None:
        self.moments: dict[str, Moments] = {}
        self.gradients: dict[str, torch.Tensor] = {}
        self._layers = layers

    def attach(self, block: nn.Module, prefix: str, leaders: set[str]) -> list[Callable[[], None]]:
        """Watch the layers of a block; returns what stops it."""
        handles = []
        for layer in self._layers:
            module = block.get_submodule(layer.removeprefix(prefix))
            handles.append(module.register_forward_hook(self._hook(layer, layer in leaders)))
        return [handle.remove for handle in handles]

    def _hook(self, layer: str, leads: bool) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if leads:
                x = args[0].detach().reshape(-1, args[0].shape[-1]).float()
                with torch.autocast("cpu", enabled=False):  # the sums need more than bfloat16
                    part = Moments((x.T @ x).double(), torch.zeros(()), len(x))
                seen = self.moments.get(layer)
                self.moments[layer] = part if seen is None else seen + part
            output.register_hook(keep)  # type: ignore[no-untyped-call]

        def keep(gradient: torch.Tensor) -> None:
            rows = gradient.reshape(-1, gradient.shape[-1]).double().square().sum(dim=0)
            self.gradients[layer] = self.gradients.get(layer, 0) + rows

        return hook


def _last_gradients(staged: StagedModel, hidden: Hidden, seed: int) -> Hidden:
    """Gradients of the log-likelihood of drawn tokens, at the output of the last block."""
    random = torch.Generator().manual_seed(seed)
    gradients = []
    for index, state in enumerate(hidden):
        leaf = state.detach().requires_grad_()
        logits = staged.head(index, leaf)
        drawn = torch.multinomial(
            logits.detach().flatten(0, 1).softmax(dim=1), 1, generator=random
        ).squeeze(1)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), drawn, reduction="sum")
        gradients.append(torch.autograd.grad(loss, leaf)[0])
    return gradients


def sensitivities(
    staged: StagedModel,
    calibration: Calibration,
    rotation: Callable[[int], Whitening],
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> list[InputGroup]:
    """Sensitivity of every group of layers that share an input, in the model's order.

    Args:
        staged: the original model; its windows are what gradients are taken over.
        calibration: settings of the whitening and the damping.
        rotation: the rotation for a number of inputs.
        seed: of the tokens drawn.
        on_progress: called after each block and direction.
    """
    inputs: list[Hidden] = [list(staged.inputs)]
    for name in staged.blocks:
        block = staged.load(name)
        with torch.no_grad():
            inputs.append([staged.run(name, block, x) for x in inputs[-1]])
        staged.drop(name)
        if on_progress:
            on_progress(1)
    gradients = _last_gradients(staged, inputs.pop(), seed)
    found: list[InputGroup] = []
    for name in reversed(staged.blocks):
        block = staged.load(name)
        groups = staged.input_groups(name, block)
        watch = _Watch([layer for members in groups for layer in members])
        stop = watch.attach(block, f"{name}.", {members[0] for members in groups})
        states = inputs.pop()
        for index, state in enumerate(states):
            leaf = state.detach().requires_grad_()
            out = staged.run(name, block, leaf)
            gradients[index] = torch.autograd.grad(out, leaf, gradients[index])[0]
        for handle in stop:
            handle()
        found += [
            _group(members, block, f"{name}.", watch, calibration, rotation)
            for members in reversed(groups)
        ]
        staged.drop(name)
        if on_progress:
            on_progress(1)
    return found[::-1]


def kept_sensitivities(
    path: Path, settings: Mapping[str, Any], find: Callable[[], list[InputGroup]]
) -> list[InputGroup]:
    """Sensitivities from a file, or found and written there.

    Args:
        path: the file; one of other settings, or damaged, is replaced.
        settings: all that they depend on, as JSON values.
        find: called where the file does not have them.
    """
    try:
        kept = _Kept.model_validate(read_json(path))
        if kept.settings == settings:
            return kept.groups
    except (LiftError, ValidationError):
        pass  # none yet, or not what this function writes
    groups = find()
    write_json(path, _Kept(settings=dict(settings), groups=groups).model_dump(mode="json"))
    return groups


def _group(
    members: list[str], block: nn.Module, prefix: str, watch: _Watch, calibration: Calibration,
    rotation: Callable[[int], Whitening],
) -> InputGroup:  # fmt: skip
    moments = watch.moments[members[0]].mean()
    weights = {m: layer_weight(block.get_submodule(m.removeprefix(prefix))) for m in members}
    stacked = torch.cat(list(weights.values())).double()
    whitening = scaled_whitening(moments, stacked, calibration.scaling, rotation)
    hessian = whitening.hessian(moments.hessian).numpy()
    costs = torch.from_numpy(feedback_factors(damped(hessian, calibration.damping))[0].copy())
    total = 0.0
    for layer, weight in weights.items():
        fisher = watch.gradients[layer] / moments.tokens
        spent = whitening.weights(weight.double()).square() @ costs
        total += 0.5 * float(fisher @ spent)
    return InputGroup(tuple(members), total)
