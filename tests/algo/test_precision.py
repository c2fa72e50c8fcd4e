"""Products in bfloat16, whether or not this processor has instructions for them."""

import copy
from pathlib import Path

import pytest
import torch

from algo import precision
from algo.calibrated import Calibration
from algo.correct import Correction
from algo.quantise import Recipe, quantise_model
from algo.sensitivity import sensitivities
from algo.source import open_source
from algo.staged import StagedModel
from algo.tune import Tuning, tune_checkpoint
from algo.whitening import random_whitening
from tests.conftest import CODES

WINDOWS = torch.randint(96, (4, 16), generator=torch.Generator().manual_seed(12))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_short_products", lambda: True)


def logits(folder: Path) -> torch.Tensor:
    staged = StagedModel(open_source(str(folder)), WINDOWS)
    state = staged.inputs[0]
    with torch.no_grad():
        for name in staged.blocks:
            block = staged.load(name)
            inputs = staged.layer_inputs(name, block, f"{name}.mlp.down_proj", state)
            state = staged.run(name, block, state)
            assert inputs.dtype == state.dtype == torch.float32
        return staged.head(0, state)


def test_products_are_short_only_where_the_processor_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    for has, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(precision, "has_short_products", lambda has=has: has)
        with precision.short_products():
            assert (x @ x.T).dtype == dtype
    assert (x @ x.T).dtype == torch.float32


def test_states_stay_float32_and_come_out_nearly_the_same(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = logits(tiny_llama)
    monkeypatch.setattr(precision, "has_short_products", lambda: True)
    rounded = logits(tiny_llama)
    assert exact.dtype == rounded.dtype == torch.float32
    error = (rounded - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert 1e-5 < error < 0.02


def test_sensitivities_are_nearly_the_same(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> list[float]:
        staged = StagedModel(open_source(str(tiny_llama)), WINDOWS)
        groups = sensitivities(staged, Calibration(WINDOWS), lambda n: random_whitening(n, 0))
        return [group.sensitivity for group in groups]

    exact = found()
    monkeypatch.setattr(precision, "has_short_products", lambda: True)
    assert found() == pytest.approx(exact, rel=0.1)


def test_everything_that_is_trained_runs_with_them(
    tiny_llama: Path, tmp_path: Path, short: None
) -> None:
    from transformers import AutoModelForCausalLM

    calibration = Calibration(WINDOWS, correction=Correction(1, 0.01, 0.01))
    recipe = Recipe(CODES["LQ-2/1+6^3"], "out", 0, calibration)
    made = quantise_model(open_source(str(tiny_llama)), recipe, tmp_path / "made")
    original = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    before = copy.deepcopy(original.state_dict())
    tune_checkpoint(made, original, WINDOWS, tmp_path / "tuned", Tuning(1)).verify()
    assert all(torch.equal(before[name], t) for name, t in original.state_dict().items())
