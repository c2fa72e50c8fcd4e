from pathlib import Path

import pytest
import torch

from algo.allocate import uniform_bits
from algo.calibrated import Calibration
from algo.checkpoint import Checkpoint
from algo.errors import LiftError
from algo.footprint import word_bytes
from algo.manifest import SENSITIVITIES
from algo.matrix import AXES, Axis
from algo.quantise import quantise_model
from algo.shipped import best_code, fitting_codes
from algo.source import Source, open_source
from liftquant import recipes
from liftquant.recipes import Wish, check_rate, make_recipe

WINDOWS = torch.randint(96, (10, 16), generator=torch.Generator().manual_seed(14))
CALIBRATION = Calibration(WINDOWS)


@pytest.fixture(scope="module")
def source(tiny_llama: Path) -> Source:
    return open_source(str(tiny_llama))


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("bits", [2.0, 2.3])
def test_allocation_keeps_the_budget_of_its_rate(source: Source, bits: float, axis: Axis) -> None:
    seen: list[float] = []
    wish = Wish(bits, window=8, axis=axis, seed=3)
    recipe = make_recipe(source, wish, CALIBRATION, seen.append)
    assert sum(seen) == pytest.approx(1)
    assert set(recipe.layer_codes) == set(source.linears)
    assert (recipe.axis, recipe.seed, recipe.calibration) == (axis, 3, CALIBRATION)
    rates = {code.rate for code in recipe.layer_codes.values()}
    assert len(rates) > 1
    assert all(abs(rate - bits) <= recipes._RATE_SPAN + 1e-9 for rate in rates)
    shapes = {n: tuple(w.shape) for n, w in source.linear_weights()}
    spent = sum(8 * word_bytes(shapes[n], c, axis) for n, c in recipe.layer_codes.items())
    near = [c for c in fitting_codes(8, True) if abs(c.code.rate - bits) <= 1 + 1e-9]
    assert spent <= uniform_bits(shapes, near, axis, bits)


def test_layers_that_share_an_input_get_one_code(source: Source) -> None:
    recipe = make_recipe(source, Wish(2.4, window=8), CALIBRATION)
    for block in ("model.layers.0", "model.layers.1"):
        for leaves in (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                       ("mlp.gate_proj", "mlp.up_proj")):  # fmt: skip
            assert len({recipe.code_of(f"{block}.{leaf}") for leaf in leaves}) == 1


@pytest.mark.parametrize("parities", [True, False])
def test_uniform_wish_is_one_code(source: Source, parities: bool) -> None:
    wish = Wish(2.4, 8, parities, "in", 5, allocated=False)
    recipe = make_recipe(source, wish, CALIBRATION)
    assert recipe.code == best_code(2.4, 8, parities)
    assert not recipe.layer_codes
    assert (recipe.axis, recipe.seed, recipe.calibration) == ("in", 5, CALIBRATION)


def test_without_text_there_is_one_code(source: Source) -> None:
    recipe = make_recipe(source, Wish(2.4, 8), None)
    assert not recipe.layer_codes
    assert recipe.calibration is None


def test_codes_with_parities_are_only_taken_where_allowed(source: Source) -> None:
    linear = make_recipe(source, Wish(2.4, 8, parities=False), CALIBRATION)
    assert not any(code.parities for code in linear.layer_codes.values())
    free = make_recipe(source, Wish(2.4, 8, parities=True), CALIBRATION)
    assert any(code.parities for code in free.layer_codes.values())


def test_gradients_are_taken_over_some_of_the_windows(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    import algo.staged

    real = algo.staged.StagedModel

    def noted(source: Source, windows: torch.Tensor, batch: int) -> algo.staged.StagedModel:
        made.append(windows)
        return real(source, windows, batch)

    monkeypatch.setattr(algo.staged, "StagedModel", noted)
    make_recipe(source, Wish(2.4, 8), CALIBRATION)
    assert [len(windows) for windows in made] == [recipes.SENSITIVITY_WINDOWS]
    assert torch.equal(made[0], WINDOWS[: recipes.SENSITIVITY_WINDOWS])


def test_a_stopped_run_does_not_choose_again(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import algo.sensitivity

    folder = tmp_path / "out"
    chosen = make_recipe(source, Wish(2.4, 8), CALIBRATION, folder=folder)
    with monkeypatch.context() as patch:
        patch.setattr(algo.sensitivity, "sensitivities", None)  # not to be called
        again = make_recipe(source, Wish(2.4, 8), CALIBRATION, folder=folder)
        other = make_recipe(source, Wish(2.8, 8), CALIBRATION, folder=folder)
        with pytest.raises(TypeError):  # another seed asks for others
            make_recipe(source, Wish(2.4, 8, seed=1), CALIBRATION, folder=folder)
    assert again.layer_codes == chosen.layer_codes
    assert other.layer_codes != chosen.layer_codes
    quantise_model(source, chosen, folder)
    assert not (folder / SENSITIVITIES).exists()
    assert SENSITIVITIES not in Checkpoint(folder).manifest.files


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish(4.01), "4.01 bits per weight are outside what the shipped codes of window 12 offer"),
        (Wish(1.0, 8), "1 bits per weight are outside what the shipped codes of window 8 offer"),
        (Wish(2.345, allocated=False), "no shipped code has 2.345 bits per weight"),
        (Wish(2.4, 5), "no shipped code has a window of 5 bits"),
        (Wish(2.4, 5, allocated=False), "no shipped code has a window of 5 bits"),
    ],
)  # fmt: skip
def test_rates_that_no_codes_make_up_are_refused(source: Source, wish: Wish, message: str) -> None:
    with pytest.raises(LiftError, match=message):
        check_rate(wish)
    with pytest.raises(LiftError, match=message):
        make_recipe(source, wish, CALIBRATION)
