"""Sensitivities, against an ordinary backward pass and against measured divergences."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from algo.calibrated import Calibration
from algo.feedback import damped, feedback_factors
from algo.sensitivity import InputGroup, kept_sensitivities, sensitivities
from algo.source import open_source
from algo.staged import StagedModel
from algo.tune import divergence
from algo.whitening import Whitening, input_scales, random_whitening

WINDOWS = torch.randint(96, (12, 32), generator=torch.Generator().manual_seed(6))
CALIBRATION = Calibration(WINDOWS, batch=5)  # batches of 5, 5 and 2


def rotation(n: int) -> Whitening:
    return random_whitening(n, 0)


def whole(folder: Path) -> nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()


def staged(folder: Path) -> StagedModel:
    return StagedModel(open_source(str(folder)), WINDOWS, CALIBRATION.batch)


@pytest.fixture(scope="module")
def found(tiny_llama: Path) -> list[InputGroup]:
    return sensitivities(staged(tiny_llama), CALIBRATION, rotation, seed=1)


class Whole:
    """Inputs of all layers and gradients of their outputs, of the model run and pulled as one."""

    def __init__(self, folder: Path, layers: list[str], seed: int) -> None:
        self.model = whole(folder)
        gradients: dict[str, list[torch.Tensor]] = {layer: [] for layer in layers}
        inputs: dict[str, list[torch.Tensor]] = {layer: [] for layer in layers}

        def hook(layer: str):  # type: ignore[no-untyped-def]
            def look(_: nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
                inputs[layer].append(args[0].detach().flatten(0, 1))
                output.register_hook(lambda g: gradients[layer].append(g.flatten(0, 1)))

            return look

        handles = [self.model.get_submodule(n).register_forward_hook(hook(n)) for n in layers]
        random = torch.Generator().manual_seed(seed)
        for part in torch.split(WINDOWS, CALIBRATION.batch):
            logits = self.model(part).logits.flatten(0, 1)
            drawn = torch.multinomial(logits.detach().softmax(1), 1, generator=random)[:, 0]
            nn.functional.cross_entropy(logits, drawn, reduction="sum").backward()
        for handle in handles:
            handle.remove()
        self.inputs = {layer: torch.cat(parts).double() for layer, parts in inputs.items()}
        self.gradients = {layer: torch.cat(parts).double() for layer, parts in gradients.items()}

    def whitening(self, group: tuple[str, ...]) -> tuple[Whitening, np.ndarray]:
        """Transform and damped Hessian of a group, in its basis."""
        x = self.inputs[group[0]]
        weights = torch.cat([self.model.get_submodule(n).weight.detach() for n in group]).double()
        hessian = x.T @ x / len(x)
        scales = input_scales(hessian.diagonal(), weights.square().mean(0), CALIBRATION.scaling)
        plain = rotation(x.shape[1])
        whitening = Whitening(plain.left, plain.right, scales)
        return whitening, damped(whitening.hessian(hessian).numpy(), CALIBRATION.damping)


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Whole:
    return Whole(tiny_llama, open_source(str(tiny_llama)).linears, 1)


def test_groups_are_those_of_all_blocks_in_order(found: list[InputGroup], model: Whole) -> None:
    assert [layer for group in found for layer in group.layers] == list(model.inputs)
    assert [len(group.layers) for group in found] == [3, 1, 2, 1] * 2
    assert all(group.sensitivity > 0 for group in found)


def test_block_by_block_is_an_ordinary_backward_pass(found: list[InputGroup], model: Whole) -> None:
    for group in found:
        whitening, hessian = model.whitening(group.layers)
        costs, _ = feedback_factors(hessian)
        expected = 0.0
        for layer in group.layers:
            fisher = model.gradients[layer].square().mean(0)
            weight = model.model.get_submodule(layer).weight.detach().double()
            spent = whitening.weights(weight).square() @ torch.from_numpy(costs)
            expected += 0.5 * float(fisher @ spent)
        assert group.sensitivity == pytest.approx(expected, rel=1e-3), group.layers


def with_noise(model: Whole, group: tuple[str, ...], variance: float, seed: int) -> float:
    """Divergence with errors as feedback leaves them: white noise, spread over later columns."""
    whitening, hessian = model.whitening(group)
    spread = torch.from_numpy(feedback_factors(hessian)[1])
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        reference = model.model(WINDOWS).logits.double()
        kept = {}
        for layer in group:
            module = model.model.get_submodule(layer)
            kept[layer] = module.weight.data
            real = whitening.weights(kept[layer].double())
            noise = torch.randn(real.shape, generator=rng, dtype=torch.float64) * real
            dense = kept[layer] + whitening.undo(noise * variance**0.5 @ spread)
            module.weight.data = dense.float()
        logits = model.model(WINDOWS).logits.double()
        for layer, weight in kept.items():
            model.model.get_submodule(layer).weight.data = weight
    return float(divergence(reference, logits))


def test_prediction_agrees_with_the_measured_divergence(
    found: list[InputGroup], model: Whole
) -> None:
    for group in found:
        measured = np.mean([with_noise(model, group.layers, 1e-2, seed) for seed in range(6)])
        ratio = measured / (group.sensitivity * 1e-2)
        assert 0.5 < ratio < 2, (group.layers, ratio)


def test_divergence_grows_with_the_variance_of_the_noise(
    found: list[InputGroup], model: Whole
) -> None:
    for group in (found[0], found[3], found[6]):
        small, large = (with_noise(model, group.layers, v, 3) for v in (1e-2, 4e-2))
        assert large / small == pytest.approx(4, rel=0.1)


def test_progress_covers_both_directions(tiny_llama: Path) -> None:
    seen: list[int] = []
    sensitivities(staged(tiny_llama), CALIBRATION, rotation, 1, seen.append)
    assert sum(seen) == 2 * 2


def test_other_draws_give_much_the_same(tiny_llama: Path, found: list[InputGroup]) -> None:
    again = sensitivities(staged(tiny_llama), CALIBRATION, rotation, seed=2)
    ratios = [a.sensitivity / b.sensitivity for a, b in zip(again, found, strict=True)]
    assert 0.7 < min(ratios) <= max(ratios) < 1.4
    assert ratios != [1.0] * 8


def test_kept_sensitivities_are_found_once(tmp_path: Path) -> None:
    groups = [InputGroup(("a", "b"), 0.1 + 0.2), InputGroup(("c",), 1e-30)]
    calls: list[int] = []

    def find() -> list[InputGroup]:
        calls.append(1)
        return groups

    path = tmp_path / "out" / "sensitivities.json"
    assert kept_sensitivities(path, {"seed": 1}, find) == groups
    assert kept_sensitivities(path, {"seed": 1}, find) == groups
    assert len(calls) == 1
    assert kept_sensitivities(path, {"seed": 2}, find) == groups
    assert len(calls) == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"settings": {"seed": 1}, "groups": [{}]}'])
def test_a_damaged_file_of_sensitivities_is_replaced(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "sensitivities.json"
    path.write_text(damage)
    groups = [InputGroup(("a",), 2.0)]
    assert kept_sensitivities(path, {"seed": 1}, lambda: groups) == groups
    assert kept_sensitivities(path, {"seed": 1}, list) == groups
