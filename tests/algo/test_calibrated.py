"""Blocks quantised on what the quantised model feeds them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from algo.calibrated import CalibratedBlocks, Calibration, Moments, QuantisedBlock, dense_weight
from algo.code import LiftCode
from algo.errors import LiftError
from algo.feedback import proxy_error
from algo.matrix import AXES, Axis, quantise_matrix
from algo.model import load_quantised
from algo.quantise import Recipe, quantise_model
from algo.shipped import load_code
from algo.source import Source, open_source
from algo.staged import StagedModel
from algo.whitening import random_whitening
from tests.conftest import CODES, write_tiny_llama

WINDOWS = torch.randint(96, (6, 24), generator=torch.Generator().manual_seed(2))
CALIBRATION = Calibration(WINDOWS, batch=4)  # batches of 4 and 2


def rotation(n: int):  # type: ignore[no-untyped-def]
    return random_whitening(n, 0)


def blocks_for(source: Source, calibration: Calibration) -> CalibratedBlocks:
    staged = StagedModel(source, calibration.windows, calibration.batch)
    return CalibratedBlocks(staged, calibration, rotation)


def run(
    source: Source, calibration: Calibration, code: LiftCode, axis: Axis = "out"
) -> tuple[CalibratedBlocks, list[QuantisedBlock]]:
    blocks = blocks_for(source, calibration)
    codes = dict.fromkeys(source.linears, code)
    names = ("model.layers.0", "model.layers.1")
    return blocks, [blocks.quantise(name, codes, axis, None) for name in names]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", ["LQ-2/1+6", "LQ-16/8", "LQ-2/1+6^3"])
def test_errors_are_those_the_finished_model_makes_and_below_plain_rounding(
    tiny_llama: Path, tmp_path: Path, axis: Axis, name: str
) -> None:
    code = CODES[name] if "^" in name else load_code(name)
    source = open_source(str(tiny_llama))
    calibration = dataclasses.replace(CALIBRATION, drift=0.0)
    made = quantise_model(source, Recipe(code, axis, 0, calibration), tmp_path / "out")
    model, seen = load_quantised(made), {}
    for layer in source.linears:
        module = model.get_submodule(layer)
        module.register_forward_pre_hook(lambda _, a, layer=layer: seen.update({layer: a[0]}))
    with torch.no_grad():
        model(WINDOWS)
    whitenings, better = made.whitenings(), []
    for layer, entry in made.manifest.layers.items():
        x = seen[layer].flatten(0, 1).double()
        hessian = (x.T @ x / len(x)).numpy()
        real = source.tensor(f"{layer}.weight").double()
        size = proxy_error(real.numpy(), hessian)
        dense = whitenings[layer].undo(made.matrix(layer).dequantise().double())
        error = proxy_error((dense - real).numpy(), hessian) / size
        assert entry.proxy_error == pytest.approx(error, rel=1e-3), layer
        plain = quantise_matrix(whitenings[layer].weights(real.float()), code, axis)
        dense = whitenings[layer].undo(plain.dequantise().double())
        better.append(error / (proxy_error((dense - real).numpy(), hessian) / size))
    assert max(better) < 1
    assert np.median(better) < 0.9


@pytest.fixture(scope="module")
def done(tiny_llama: Path) -> tuple[CalibratedBlocks, list[QuantisedBlock]]:
    return run(open_source(str(tiny_llama)), CALIBRATION, CODES["LQ-3/1+5"])


def test_the_finished_model_has_the_hidden_states_that_calibration_ended_with(
    tiny_llama: Path, tmp_path: Path, done: tuple[CalibratedBlocks, list[QuantisedBlock]]
) -> None:
    recipe = Recipe(CODES["LQ-3/1+5"], "out", 0, CALIBRATION)
    made = quantise_model(open_source(str(tiny_llama)), recipe, tmp_path / "out")
    model, ends = load_quantised(made), []
    model.model.norm.register_forward_pre_hook(lambda _, args: ends.append(args[0]))
    with torch.no_grad():
        model(WINDOWS)
    torch.testing.assert_close(torch.cat(done[0]._hidden), ends[0], rtol=1e-4, atol=1e-5)


def test_making_drift_good_brings_outputs_nearer_to_the_original(tiny_llama: Path) -> None:
    """Behind a coarse code, on more tokens than a layer has inputs."""
    from transformers import AutoModelForCausalLM

    source = open_source(str(tiny_llama))
    model, ends = AutoModelForCausalLM.from_pretrained(tiny_llama).eval(), []
    model.model.norm.register_forward_pre_hook(lambda _, args: ends.append(args[0]))
    with torch.no_grad():
        model(WINDOWS)

    def miss(drift: float) -> float:
        calibration = dataclasses.replace(CALIBRATION, drift=drift)
        blocks, _ = run(source, calibration, CODES["LQ-1/1"])
        return float((torch.cat(blocks._hidden) - ends[0]).square().mean())

    assert miss(0.5) < miss(0.0)


def test_drift_is_measured_against_the_original_model(tiny_llama: Path) -> None:
    from transformers import AutoModelForCausalLM

    source, layer = open_source(str(tiny_llama)), "model.layers.1.self_attn.q_proj"
    blocks = blocks_for(source, CALIBRATION)
    codes = dict.fromkeys(source.linears, CODES["LQ-1/1"])
    blocks.quantise("model.layers.0", codes, "out", None)
    second = blocks._staged.load("model.layers.1")
    found = blocks._moments("model.layers.1", second, second, layer)
    model, seen = AutoModelForCausalLM.from_pretrained(tiny_llama).eval(), []
    model.get_submodule(layer).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(WINDOWS)
        parts = [blocks._staged.layer_inputs("model.layers.1", second, layer, h)
                 for h in blocks._hidden]  # fmt: skip
    x, x0 = torch.cat(parts).double(), seen[0].flatten(0, 1).double()
    assert float((x0 - x).square().mean()) > 1e-4
    assert found.tokens == len(x) == WINDOWS.numel()
    torch.testing.assert_close(found.hessian, x.T @ x / len(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.drift, (x0 - x).T @ x / len(x), rtol=1e-4, atol=1e-5)


def test_layers_of_one_input_share_a_transform(
    done: tuple[CalibratedBlocks, list[QuantisedBlock]],
) -> None:
    for block in done[1]:
        assert list(block.whitenings) == [group[0] for group in block.groups]
        assert list(block.matrices) == [layer for group in block.groups for layer in group]
        assert set(block.matrices) == set(block.errors)
        assert [len(group) for group in block.groups] == [3, 1, 2, 1]


def test_replaying_a_block_is_quantising_it(
    tiny_llama: Path, done: tuple[CalibratedBlocks, list[QuantisedBlock]]
) -> None:
    blocks, made = done
    again = blocks_for(open_source(str(tiny_llama)), CALIBRATION)
    for name, block in zip(("model.layers.0", "model.layers.1"), made, strict=True):
        dense = {
            layer: dense_weight(block.matrices[layer], block.whitenings[group[0]])
            for group in block.groups
            for layer in group
        }
        again.replay(name, dense)
    for one, other in zip(blocks._hidden, again._hidden, strict=True):
        assert torch.equal(one, other)


def test_moments_add_up_to_means() -> None:
    rng = torch.Generator().manual_seed(3)
    x, x0 = torch.randn(2, 50, 6, generator=rng, dtype=torch.float64)

    def part(rows: slice) -> Moments:
        a, b = x[rows], x0[rows]
        return Moments(a.T @ a, (b - a).T @ a, len(a))

    both = (part(slice(0, 20)) + part(slice(20, 50))).mean()
    torch.testing.assert_close(both.hessian, x.T @ x / 50)
    torch.testing.assert_close(both.drift, (x0 - x).T @ x / 50)


def test_drift_that_weights_can_undo_is_undone() -> None:
    rng = torch.Generator().manual_seed(4)
    x0 = torch.randn(80, 7, generator=rng, dtype=torch.float64)
    mixing = torch.eye(7, dtype=torch.float64) + 0.2 * torch.randn(7, 7, generator=rng)
    x, weight = x0 @ mixing, torch.randn(5, 7, generator=rng, dtype=torch.float64)
    moments = Moments(x.T @ x, (x0 - x).T @ x, 80).mean()
    mended = weight + moments.making_good(weight, 0.0)
    torch.testing.assert_close(x @ mended.T, x0 @ weight.T)


def test_relative_error_is_that_of_the_outputs() -> None:
    rng = torch.Generator().manual_seed(5)
    x = torch.randn(40, 6, generator=rng, dtype=torch.float64)
    weight, error = torch.randn(2, 3, 6, generator=rng, dtype=torch.float64)
    moments = Moments(x.T @ x, torch.zeros(6, 6), 40).mean()
    expected = (x @ error.T).square().sum() / (x @ weight.T).square().sum()
    assert moments.relative_error(error, weight) == pytest.approx(float(expected))
    assert moments.relative_error(error, weight * 0) == 0


def test_code_that_does_not_fit_names_its_layer(tmp_path: Path) -> None:
    narrow = write_tiny_llama(tmp_path / "m", hidden_size=8, num_key_value_heads=1)
    with pytest.raises(LiftError, match=r"layer .*k_proj: a stream of 2 weights is too narrow"):
        run(open_source(str(narrow)), CALIBRATION, CODES["LQ-2/1+3"])


def test_activations_that_are_no_numbers_name_their_layer(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.post_attention_layernorm.weight"][3] = torch.inf
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LiftError, match=r"layer model.layers.0.mlp.gate_proj: .* NaN or infinity"):
        run(open_source(str(folder)), CALIBRATION, CODES["LQ-16/8"])


def test_no_text_is_refused(tiny_llama: Path) -> None:
    blocks = blocks_for(open_source(str(tiny_llama)), CALIBRATION)
    blocks._hidden, blocks._original = [], []
    with pytest.raises(LiftError, match="the calibration text is empty; give a longer one"):
        blocks.quantise("model.layers.0", {}, "out", None)


def test_settings_are_all_that_changes_the_result() -> None:
    base = CALIBRATION.settings()
    assert dataclasses.replace(CALIBRATION, batch=1).settings() == base
    other = WINDOWS.clone()
    other[5, 23] += 1
    changes = [
        {"windows": other}, {"windows": WINDOWS.reshape(12, 12)}, {"scaling": 0.5},
        {"drift": 0.0}, {"damping": 0.1},
    ]  # fmt: skip
    for change in changes:
        assert dataclasses.replace(CALIBRATION, **change).settings() != base, change
