"""Quantising a block with error feedback, measured on what the quantised model feeds it.

Layers are taken in the order of the forward pass, those with the same input together. Their
Hessian comes from the text run through everything already quantised: the blocks before, and the
layers before in this block. What drifted there is partly made good here: the target of a layer is
the output it had in the original model, as far as its drifted input can still give it.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from algo.code import LiftCode
from algo.correct import Correction, correct_block
from algo.errors import LiftError
from algo.evaluate import windows_digest
from algo.feedback import DAMPING, damped, proxy_error, quantise_with_feedback
from algo.learn_whitening import learn_whitening
from algo.matrix import Axis, PackedMatrix
from algo.search import default_workers
from algo.staged import Hidden, StagedModel
from algo.whitening import Whitening, input_scales

Report = Callable[[int, str], None]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What to calibrate on, and how.

    Attributes:
        windows: int64 ``(windows, context)`` tokens.
        scaling: power of the input scales (`algo.whitening.input_scales`).
        learned: whether input scales and rotations are learned (`algo.learn_whitening`).
        drift: how much of the drift of a layer's input its weights make good, 0 to 1.
        damping: as in `algo.feedback.damped`.
        batch: windows per forward pass; changes nothing beyond rounding.
        correction: how to train each block afterwards; None leaves it.
    """

    windows: torch.Tensor
    scaling: float = 0.25
    learned: bool = False
    drift: float = 0.5
    damping: float = DAMPING
    batch: int = 4
    correction: Correction | None = None

    def settings(self) -> dict[str, Any]:
        """All that the result depends on, as JSON values; windows by their hash."""
        return {
            "windows": windows_digest(self.windows),
            "scaling": self.scaling,
            "learned": self.learned,
            "drift": self.drift,
            "damping": self.damping,
            "correction": None if self.correction is None else asdict(self.correction),
        }


@dataclass(frozen=True)
class QuantisedBlock:
    """A block's layers in low-bit form.

    Attributes:
        matrices: by layer.
        groups: layers that share an input, in the order of the forward pass.
        whitenings: by the first layer of a group.
        errors: relative proxy error ``tr(D H D^T) / tr(W H W^T)``, by layer; empty
            without calibration.
    """

    matrices: Mapping[str, PackedMatrix]
    groups: list[list[str]]
    whitenings: Mapping[str, Whitening]
    errors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of a layer's input x, and x0, the same in the original model.

    Attributes:
        hessian: ``E[x x^T]``, float64 ``(n, n)``.
        drift: ``E[(x0 - x) x^T]``.
        tokens: how many they were taken over.
    """

    hessian: torch.Tensor
    drift: torch.Tensor
    tokens: int

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.hessian + other.hessian, self.drift + other.drift, self.tokens + other.tokens
        )

    def mean(self) -> "Moments":
        """Sums over tokens as means."""
        return replace(self, hessian=self.hessian / self.tokens, drift=self.drift / self.tokens)

    def making_good(self, weight: torch.Tensor, damping: float) -> torch.Tensor:
        """What to add to the weights so that x gives what x0 gave, in the least squares."""
        full = torch.from_numpy(damped(self.hessian.numpy(), damping))
        added: torch.Tensor = torch.linalg.solve(full, (weight @ self.drift).T).T
        return added

    def relative_error(self, error: torch.Tensor, weight: torch.Tensor) -> float:
        """``tr(D H D^T) / tr(W H W^T)``."""
        size = proxy_error(weight.numpy(), self.hessian.numpy())
        return proxy_error(error.numpy(), self.hessian.numpy()) / size if size else 0.0


def scaled_whitening(
    moments: Moments, weights: torch.Tensor, scaling: float, rotation: Callable[[int], Whitening]
) -> Whitening:
    """The rotation for an input, with input scales.

    Args:
        moments: of the input.
        weights: of all layers that read it, float64 ``(rows, n)``.
        scaling: power of the input scales.
        rotation: the rotation for a number of inputs.
    """
    columns = weights.square().mean(dim=0)
    scales = input_scales(moments.hessian.diagonal(), columns, scaling)
    plain = rotation(len(scales))
    return Whitening(plain.left, plain.right, scales)


def _put(block: nn.Module, name: str, dense: Mapping[str, torch.Tensor]) -> None:
    """Give layers of the block `name` other weights."""
    for layer, weight in dense.items():
        module = block.get_submodule(layer.removeprefix(f"{name}."))
        module.weight = nn.Parameter(weight, requires_grad=False)


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
        # the original is only run along where something is compared with it
        self._follows = bool(calibration.drift) or calibration.correction is not None

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
            moments = self._moments(name, block, original, members[0])
            modules = {m: block.get_submodule(m.removeprefix(f"{name}.")) for m in members}
            real = {m: layer_weight(module).double() for m, module in modules.items()}
            whitening = self._whitening(moments, real.values())
            whitenings[members[0]] = whitening

            def one(
                layer: str, moments: Moments = moments, whitening: Whitening = whitening,
                real: Mapping[str, torch.Tensor] = real,
            ) -> PackedMatrix:  # fmt: skip
                named = None if report is None else partial(_under, report, layer)
                return self._layer(
                    layer, real[layer], moments, whitening, codes[layer], axis, named
                )

            with ThreadPoolExecutor(default_workers()) as pool:
                made = dict(zip(members, pool.map(one, members), strict=True))
            dense = {layer: dense_weight(matrix, whitening) for layer, matrix in made.items()}
            for layer, weight in dense.items():
                errors[layer] = moments.relative_error(weight.double() - real[layer], real[layer])
            _put(block, name, dense)
            matrices |= made
        nearest = QuantisedBlock(matrices, groups, whitenings, errors)
        return self._corrected(name, block, original, nearest)

    def _corrected(
        self, name: str, block: nn.Module, original: nn.Module, made: QuantisedBlock
    ) -> QuantisedBlock:
        """Train the block if that is asked for; carry the text through it either way."""
        correction = self._calibration.correction
        if correction is not None:
            with torch.no_grad():
                wanted = [self._staged.run(name, original, x) for x in self._original]
            trained = copy.deepcopy(block)
            made = correct_block(
                self._staged, name, trained, made, self._hidden, wanted, correction
            )
            for group in made.groups:
                whitening = made.whitenings[group[0]]
                _put(block, name, {m: dense_weight(made.matrices[m], whitening) for m in group})
        self._advance(name, block, original)
        return made

    def _layer(
        self, layer: str, weight: torch.Tensor, moments: Moments, whitening: Whitening,
        code: LiftCode, axis: Axis, report: Callable[[int], None] | None,
    ) -> PackedMatrix:  # fmt: skip
        settings = self._calibration
        target = weight
        if settings.drift:
            target = weight + settings.drift * moments.making_good(weight, settings.damping)
        hessian = whitening.hessian(moments.hessian).numpy()
        try:
            return quantise_with_feedback(
                whitening.weights(target), hessian, code, axis, settings.damping, report
            )
        except LiftError as error:
            raise LiftError(f"layer {layer}: {error}") from None

    def replay(self, name: str, dense: Mapping[str, torch.Tensor]) -> None:
        """Carry the text through a block quantised before, given its dequantised weights."""
        original = self._staged.load(name)
        block = copy.deepcopy(original)
        _put(block, name, dense)
        self._advance(name, block, original)

    def _moments(self, name: str, block: nn.Module, original: nn.Module, layer: str) -> Moments:
        inputs = self._staged.layer_inputs
        sums: Moments | None = None
        for state, was in zip(self._hidden, self._original, strict=True):
            x = inputs(name, block, layer, state)
            x0 = inputs(name, original, layer, was) if self._calibration.drift else x
            part = Moments((x.T @ x).double(), ((x0 - x).T @ x).double(), len(x))
            sums = part if sums is None else sums + part
        if sums is None:
            raise LiftError("the calibration text is empty; give a longer one")
        if not bool(torch.isfinite(sums.hessian).all() and torch.isfinite(sums.drift).all()):
            raise LiftError(
                f"layer {layer}: what it is called with on the calibration text holds NaN or "
                "infinity; are the model's weights sound?"
            )
        return sums.mean()

    def _whitening(self, moments: Moments, weights: Iterable[torch.Tensor]) -> Whitening:
        stacked = torch.cat(list(weights))
        plain = scaled_whitening(moments, stacked, self._calibration.scaling, self._factors)
        if not self._calibration.learned:
            return plain
        return learn_whitening(plain, moments.hessian, stacked, self._calibration.damping)

    def _advance(self, name: str, block: nn.Module, original: nn.Module) -> None:
        with torch.no_grad():
            self._hidden = [self._staged.run(name, block, x) for x in self._hidden]
            if self._follows:
                self._original = [self._staged.run(name, original, x) for x in self._original]
        self._staged.drop(name)


def dense_weight(matrix: PackedMatrix, whitening: Whitening) -> torch.Tensor:
    """What a layer in low-bit form computes with, float32 ``(outputs, inputs)``.

    A resumed run must go on with the very numbers that the stopped one had.
    """
    return whitening.undo(matrix.dequantise().double()).float()


def layer_weight(module: nn.Module) -> torch.Tensor:
    """The weight of a linear layer, which torch's types do not know to be a tensor."""
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    return weight


def _under(report: Report, layer: str, weights: int) -> None:
    report(weights, layer)
