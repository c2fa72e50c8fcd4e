"""Quantising a block with error feedback, measured on what the quantised model feeds it.

Layers are taken in the order of the forward pass, those with the same input together. Their
Hessian comes from the text run through everything already quantised: the blocks before, and the
layers before in this block. What drifted there is partly made good here: the target of a layer is
the output it had in the original model, as far as its drifted input can still give it.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from algo.code import LiftCode
from algo.errors import LiftError
from algo.feedback import DAMPING, damped, proxy_error, quantise_with_feedback
from algo.matrix import Axis, PackedMatrix
from algo.search import default_workers
from algo.staged import Hidden, StagedModel
from algo.whitening import Whitening, input_scales

Floats64 = npt.NDArray[np.float64]
Report = Callable[[int, str], None]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What to calibrate on, and how.

    Attributes:
        windows: int64 ``(windows, context)`` tokens.
        scaling: power of the input scales (`algo.whitening.input_scales`).
        drift: how much of the drift of a layer's input its weights make good, 0 to 1.
        damping: as in `algo.feedback.damped`.
        batch: windows per forward pass; changes nothing beyond rounding.
    """

    windows: torch.Tensor
    scaling: float = 0.25
    drift: float = 0.5
    damping: float = DAMPING
    batch: int = 4


@dataclass(frozen=True)
class QuantisedBlock:
    """A block's layers in low-bit form.

    Attributes:
        matrices: by layer.
        groups: layers that share an input, in the order of the forward pass.
        whitenings: by the first layer of a group.
        errors: relative proxy error ``tr(D H D^T) / tr(W H W^T)``, by layer; empty if replayed.
    """

    matrices: Mapping[str, PackedMatrix]
    groups: list[list[str]]
    whitenings: Mapping[str, Whitening]
    errors: Mapping[str, float] = field(default_factory=dict)


class CalibratedBlocks:
    """The state of a calibrated run: hidden states before the next block, twice.

    Args:
        staged: the original model on the calibration windows.
        calibration: settings.
        factors: the rotation for a number of inputs.
    """

    def __init__(
        self, staged: StagedModel, calibration: Calibration, factors: Callable[[int], Whitening]
    ) -> None:
        self._staged = staged
        self._calibration = calibration
        self._factors = factors
        self._hidden: Hidden = list(staged.inputs)  # after the quantised blocks
        self._original: Hidden = list(staged.inputs)  # after the original ones
        self._groups: list[list[str]] | None = None

    def quantise(
        self, name: str, codes: Mapping[str, LiftCode], axis: Axis, report: Report | None
    ) -> QuantisedBlock:
        """Quantise the next block, and carry the text through it."""
        original = self._staged.load(name)
        block = copy.deepcopy(original)
        groups = self._staged.input_groups(name, block)
        matrices: dict[str, PackedMatrix] = {}
        whitenings: dict[str, Whitening] = {}
        errors: dict[str, float] = {}
        for members in groups:
            hessian, cross = self._statistics(name, block, original, members[0])
            modules = {m: block.get_submodule(m.removeprefix(f"{name}.")) for m in members}
            real = {m: module.weight.double() for m, module in modules.items()}  # type: ignore[operator]
            whitening = self._whitening(hessian, real.values())
            whitenings[members[0]] = whitening
            make_good = np.linalg.solve(damped(hessian, self._calibration.damping), cross.T).T

            def one(
                layer: str, weight: torch.Tensor,
                hessian: Floats64 = hessian, whitening: Whitening = whitening,
                make_good: Floats64 = make_good,
            ) -> PackedMatrix:  # fmt: skip
                target = weight + self._calibration.drift * (
                    weight @ torch.from_numpy(make_good)
                )
                try:
                    return quantise_with_feedback(
                        whitening.weights(target),
                        whitening.hessian(torch.from_numpy(hessian)).numpy(),
                        codes[layer],
                        axis,
                        self._calibration.damping,
                        None if report is None else lambda n: report(n, layer),
                    )
                except LiftError as error:
                    raise LiftError(f"layer {layer}: {error}") from None

            with ThreadPoolExecutor(default_workers()) as pool:
                made = dict(zip(members, pool.map(one, members, real.values()), strict=True))
            for layer, matrix in made.items():
                dense = whitening.undo(matrix.dequantise().double())
                error = (dense - real[layer]).numpy()
                size = proxy_error(real[layer].numpy(), hessian)
                errors[layer] = proxy_error(error, hessian) / size if size else 0.0
                modules[layer].weight = nn.Parameter(dense.float(), requires_grad=False)
            matrices |= made
        self._advance(name, block, original)
        return QuantisedBlock(matrices, groups, whitenings, errors)

    def replay(self, name: str, dense: Mapping[str, torch.Tensor]) -> None:
        """Carry the text through a block quantised before, given its dequantised weights."""
        original = self._staged.load(name)
        block = copy.deepcopy(original)
        for layer, weight in dense.items():
            module = block.get_submodule(layer.removeprefix(f"{name}."))
            module.weight = nn.Parameter(weight, requires_grad=False)
        self._advance(name, block, original)

    def _statistics(
        self, name: str, block: nn.Module, original: nn.Module, layer: str
    ) -> tuple[Floats64, Floats64]:
        """``E[x x^T]`` and ``E[(x0 - x) x^T]``: x is the layer's input, x0 the original's."""
        inputs = self._staged.layer_inputs
        hessian = cross = 0.0
        tokens = 0
        for state, was in zip(self._hidden, self._original, strict=True):
            x = inputs(name, block, layer, state)
            hessian = hessian + (x.T @ x).double()
            if self._calibration.drift:
                x0 = inputs(name, original, layer, was)
                cross = cross + ((x0 - x).T @ x).double()
            tokens += len(x)
        if not isinstance(hessian, torch.Tensor):
            raise LiftError("no calibration text was given")
        second = cross if isinstance(cross, torch.Tensor) else torch.zeros_like(hessian)
        return (hessian / tokens).numpy(), (second / tokens).numpy()

    def _whitening(self, hessian: Floats64, weights: Iterable[torch.Tensor]) -> Whitening:
        stacked = torch.cat(list(weights))
        scales = input_scales(
            torch.from_numpy(hessian.diagonal().copy()),
            stacked.square().mean(dim=0),
            self._calibration.scaling,
        )
        rotation = self._factors(len(scales))
        return Whitening(rotation.left, rotation.right, scales)

    def _advance(self, name: str, block: nn.Module, original: nn.Module) -> None:
        with torch.no_grad():
            self._hidden = [self._staged.run(name, block, x) for x in self._hidden]
            if self._calibration.drift:
                self._original = [self._staged.run(name, original, x) for x in self._original]
        self._staged.drop(name)
