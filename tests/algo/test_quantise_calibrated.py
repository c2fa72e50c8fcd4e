"""Calibrated runs from model to checkpoint: stopped anywhere, they end in the same bytes."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from algo import quantise
from algo.calibrated import CalibratedBlocks, Calibration
from algo.checkpoint import Checkpoint
from algo.correct import Correction
from algo.errors import LiftError
from algo.matrix import AXES, Axis
from algo.quantise import Recipe, quantise_model
from algo.source import open_source
from tests.conftest import CODES, random_code

WINDOWS = torch.randint(96, (4, 16), generator=torch.Generator().manual_seed(3))
CALIBRATION = Calibration(WINDOWS)
MIXED = {
    "model.layers.0.self_attn.k_proj": CODES["LQ-2/1+6^3"],
    "model.layers.1.mlp.down_proj": CODES["LQ-16/8"],
}
RECIPE = Recipe(CODES["LQ-3/1+5"], "out", 4, CALIBRATION, MIXED)
CORRECTED = dataclasses.replace(
    RECIPE, calibration=dataclasses.replace(CALIBRATION, correction=Correction(8, 0.01, True))
)
LEARNED = dataclasses.replace(RECIPE, calibration=dataclasses.replace(CALIBRATION, learned=True))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def calibrated(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated") / "out"
    quantise_model(open_source(str(tiny_llama)), RECIPE, folder)
    return folder


def interrupt(target: object, name: str, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop, as by Ctrl-C, in place of a call of a function."""
    real: Callable[..., object] = getattr(target, name)
    calls = []

    def counted(*args: object, **keywords: object) -> object:
        calls.append(name)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*args, **keywords)

    monkeypatch.setattr(target, name, counted)


STOPS = {
    "before the second block": (CalibratedBlocks, "quantise", 2),
    "between the first block's file and the state": (quantise._Run, "_write", 1),
    "between the second block's file and the state": (quantise._Run, "_write", 2),
    "before the manifest": (quantise, "write_manifest", 1),
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS.keys())
def test_stopped_run_ends_in_the_same_bytes(
    tiny_llama: Path, calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    stop: tuple[object, str, int],
) -> None:  # fmt: skip
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt(*stop, patch)
        with pytest.raises(KeyboardInterrupt):
            quantise_model(open_source(str(tiny_llama)), RECIPE, folder)
    assert (folder / "block-000.safetensors").exists()
    totals: list[int] = []
    seen: list[int] = []
    quantise_model(
        open_source(str(tiny_llama)), RECIPE, folder, totals.append, lambda n, _: seen.append(n)
    )
    assert sum(seen) == totals[0]
    assert contents(folder) == contents(calibrated)


def test_finished_blocks_are_not_made_again(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt(CalibratedBlocks, "quantise", 2, patch)
        with pytest.raises(KeyboardInterrupt):
            quantise_model(open_source(str(tiny_llama)), RECIPE, folder)
    made: list[str] = []
    real = CalibratedBlocks.quantise

    def noted(self: CalibratedBlocks, name: str, *rest: object) -> object:
        made.append(name)
        return real(self, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(CalibratedBlocks, "quantise", noted)
    quantise_model(open_source(str(tiny_llama)), RECIPE, folder)
    assert made == ["model.layers.1"]


@pytest.mark.parametrize("recipe", [CORRECTED, LEARNED], ids=["correction", "learned"])
def test_stopped_run_that_trains_ends_in_the_same_bytes(
    tiny_llama: Path, calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    recipe: Recipe,
) -> None:  # fmt: skip
    quantise_model(open_source(str(tiny_llama)), recipe, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt(CalibratedBlocks, "quantise", 2, patch)
        with pytest.raises(KeyboardInterrupt):
            quantise_model(open_source(str(tiny_llama)), recipe, tmp_path / "parts")
    quantise_model(open_source(str(tiny_llama)), recipe, tmp_path / "parts").verify()
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    first = "block-000.safetensors"
    assert (tmp_path / "whole" / first).read_bytes() != (calibrated / first).read_bytes()


def test_every_layer_has_its_code_and_its_error(calibrated: Path) -> None:
    made = Checkpoint(calibrated)
    for layer, entry in made.manifest.layers.items():
        assert made.matrix(layer).code == RECIPE.code_of(layer)
        assert 0 < (entry.proxy_error or 0) < 1
    assert set(made.codes) == {"LQ-3/1+5", "LQ-2/1+6^3", "LQ-16/8"}
    made.verify()


def test_input_scales_are_stored_once_for_a_group(calibrated: Path) -> None:
    made = Checkpoint(calibrated)
    leaders = {
        "q_proj": "q_proj", "k_proj": "q_proj", "v_proj": "q_proj", "o_proj": "o_proj",
        "gate_proj": "gate_proj", "up_proj": "gate_proj", "down_proj": "down_proj",
    }  # fmt: skip
    whitenings = made.whitenings()
    for layer, entry in made.manifest.layers.items():
        stem, _, leaf = layer.rpartition(".")
        assert entry.pre == f"{stem}.{leaders[leaf]}"
        assert whitenings[layer] is whitenings[entry.pre]
    kept = [n for n in made.tensors("block-000.safetensors") if n.endswith(".pre")]
    assert len(kept) == 4


@pytest.mark.parametrize("axis", AXES)
def test_codes_differ_by_layer_without_calibration_too(
    tiny_llama: Path, tmp_path: Path, axis: Axis
) -> None:
    recipe = Recipe(CODES["LQ-3/1+5"], axis, 0, None, MIXED)
    made = quantise_model(open_source(str(tiny_llama)), recipe, tmp_path / "out")
    assert {n for n in MIXED if made.matrix(n).code == MIXED[n]} == set(MIXED)
    assert all(entry.pre is None for entry in made.manifest.layers.values())
    assert all(entry.proxy_error is None for entry in made.manifest.layers.values())


def stopped_at_once(tiny_llama: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt(quantise, "StagedModel", 1, patch)
        with pytest.raises(KeyboardInterrupt):
            quantise_model(open_source(str(tiny_llama)), RECIPE, folder)


OTHERS = {
    "text": dataclasses.replace(CALIBRATION, windows=WINDOWS.flip(0)),
    "context": dataclasses.replace(CALIBRATION, windows=WINDOWS.reshape(8, 8)),
    "scaling": dataclasses.replace(CALIBRATION, scaling=0.0),
    "drift": dataclasses.replace(CALIBRATION, drift=0.0),
    "damping": dataclasses.replace(CALIBRATION, damping=0.02),
    "correction": dataclasses.replace(CALIBRATION, correction=Correction()),
    "learned": LEARNED.calibration,
    "none": None,
}


def test_other_settings_do_not_resume_a_run(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, source = tmp_path / "out", open_source(str(tiny_llama))
    stopped_at_once(tiny_llama, folder, monkeypatch)
    recipes = [dataclasses.replace(RECIPE, calibration=other) for other in OTHERS.values()]
    recipes.append(dataclasses.replace(RECIPE, layer_codes={}))
    recipes.append(dataclasses.replace(RECIPE, axis="in"))
    before = contents(folder)
    for recipe in recipes:
        with pytest.raises(LiftError, match="unfinished run with other settings or another model"):
            quantise_model(source, recipe, folder)
    assert contents(folder) == before


def test_more_windows_at_a_time_resume_a_run(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_at_once(tiny_llama, tmp_path / "out", monkeypatch)
    quicker = dataclasses.replace(RECIPE, calibration=dataclasses.replace(CALIBRATION, batch=1))
    interrupt(CalibratedBlocks, "quantise", 1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        quantise_model(open_source(str(tiny_llama)), quicker, tmp_path / "out")


def test_code_for_an_unknown_layer_is_refused_first(tiny_llama: Path, tmp_path: Path) -> None:
    recipe = Recipe(CODES["LQ-16/8"], layer_codes={"model.layers.2.q": CODES["LQ-1/1"]})
    with pytest.raises(LiftError, match=r"given for layer model\.layers\.2\.q, which the model"):
        quantise_model(open_source(str(tiny_llama)), recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_codes_of_one_name_are_refused_first(tiny_llama: Path, tmp_path: Path) -> None:
    other = {"model.layers.0.mlp.up_proj": random_code(16, 8, seed=1)}
    recipe = Recipe(CODES["LQ-16/8"], layer_codes=other)
    with pytest.raises(LiftError, match="two codes of one name in a recipe, LQ-16/8"):
        quantise_model(open_source(str(tiny_llama)), recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layer_too_narrow_for_its_own_code_is_refused_first(
    tiny_llama: Path, tmp_path: Path
) -> None:
    wide = random_code(24, 24, 16)  # of 39 bits, and one group has 24
    layer = "model.layers.1.self_attn.v_proj"
    recipe = Recipe(CODES["LQ-16/8"], layer_codes={layer: wide})
    with pytest.raises(LiftError, match=rf"layer {layer} \(24x48\): .* too narrow for LQ-24/24"):
        quantise_model(open_source(str(tiny_llama)), recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_of_one_layer_do_not_depend_on_threads(
    tiny_llama: Path, calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("algo.calibrated.default_workers", lambda: 1)
    made = quantise_model(open_source(str(tiny_llama)), RECIPE, tmp_path / "out")
    other = Checkpoint(calibrated)
    for layer in made.manifest.layers:
        assert np.array_equal(made.matrix(layer).words, other.matrix(layer).words)
