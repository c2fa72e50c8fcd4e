"""End-to-end tuning of a checkpoint of the tiny model."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from algo import tune
from algo import tune as tuning_run
from algo.calibrated import Calibration
from algo.checkpoint import Checkpoint
from algo.errors import LiftError
from algo.model import load_quantised
from algo.quantise import Recipe, quantise_model
from algo.source import open_source
from algo.tune import Tuning, divergence, tune_checkpoint
from tests.conftest import CODES, write_tiny_llama

WINDOWS = torch.randint(96, (10, 16), generator=torch.Generator().manual_seed(10))
TUNING = Tuning(epochs=3, rate=5e-3, batch=4)  # 3 steps in an epoch, the last of 2 windows
MIXED = {"model.layers.1.mlp.up_proj": CODES["LQ-2/1+6^3"]}


def load(folder: Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


@pytest.fixture(scope="module")
def original(tiny_llama: Path) -> nn.Module:
    return load(tiny_llama)


@pytest.fixture(scope="module")
def coarse(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    recipe = Recipe(CODES["LQ-3/2"], "out", 0, Calibration(WINDOWS), MIXED)
    folder = tmp_path_factory.mktemp("tune") / "coarse"
    return quantise_model(open_source(str(tiny_llama)), recipe, folder)


@pytest.fixture(scope="module")
def tuned(
    coarse: Checkpoint, original: nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> Checkpoint:
    folder = tmp_path_factory.mktemp("tune") / "tuned"
    return tune_checkpoint(coarse, original, WINDOWS, folder, TUNING)


def far(original: nn.Module, made: Checkpoint) -> float:
    with torch.no_grad():
        logits = load_quantised(made)(WINDOWS).logits
        return float(divergence(original(WINDOWS).logits, logits))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_divergence_is_that_of_the_next_tokens() -> None:
    rng = torch.Generator().manual_seed(11)
    p, q = torch.randn(2, 3, 5, 7, generator=rng, dtype=torch.float64).softmax(-1)
    expected = (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(
        divergence(p.log() + 3, q.log()), expected.float(), rtol=1e-5, atol=0
    )
    assert float(divergence(p.log(), p.log() - 1)) == pytest.approx(0, abs=1e-6)


def test_predictions_come_nearer_to_the_original(
    original: nn.Module, coarse: Checkpoint, tuned: Checkpoint
) -> None:
    assert far(original, tuned) < 0.9 * far(original, coarse)


def test_only_scales_change(coarse: Checkpoint, tuned: Checkpoint) -> None:
    tuned.verify()
    assert tuned.manifest.layers == coarse.manifest.layers
    assert tuned.manifest.files.keys() == coarse.manifest.files.keys()
    assert {p.name for p in tuned.folder.iterdir()} == {p.name for p in coarse.folder.iterdir()}
    before, after = coarse.whitenings(), tuned.whitenings()
    for layer, entry in coarse.manifest.layers.items():
        old, new = coarse.matrix(layer), tuned.matrix(layer)
        assert np.array_equal(new.words, old.words)
        assert new.code == old.code
        assert not torch.equal(new.scales, old.scales)
        assert torch.equal(new.scales < 0, old.scales < 0)
        assert not torch.equal(after[layer].pre, before[layer].pre)
        assert after[layer] is after[entry.pre]
    for file in ("carried.safetensors", "whitening.safetensors", "config.json"):
        assert tuned.manifest.files[file] == coarse.manifest.files[file]


def test_the_checkpoint_tuned_and_the_original_are_left_alone(
    tiny_llama: Path, coarse: Checkpoint, original: nn.Module, tuned: Checkpoint
) -> None:
    coarse.verify()
    fresh = load(tiny_llama)
    pairs = zip(original.parameters(), fresh.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


class Stop:
    """Stops a run, as by Ctrl-C, after so many steps of it."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.notes: list[tuple[int, str]] = []

    def __call__(self, steps: int, note: str) -> None:
        self.notes.append((steps, note))
        if note != "resumed":
            self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stops", [[1], [4], [5, 2], [9]])
def test_stopped_runs_end_in_the_same_bytes(
    coarse: Checkpoint, original: nn.Module, tuned: Checkpoint, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, stops: list[int],
) -> None:  # fmt: skip
    """State is kept every other step here, so most stops lose one."""
    monkeypatch.setattr(tune, "_SAVE_EVERY", 2)
    for steps in stops:
        with pytest.raises(KeyboardInterrupt):
            tune_checkpoint(coarse, original, WINDOWS, tmp_path / "out", TUNING, None, Stop(steps))
        with pytest.raises(LiftError, match="not a checkpoint, or an unfinished one"):
            Checkpoint(tmp_path / "out")
    rest, totals = Stop(-1), []
    tune_checkpoint(coarse, original, WINDOWS, tmp_path / "out", TUNING, totals.append, rest)
    assert totals == [9]
    assert sum(steps for steps, _ in rest.notes) == 9
    assert rest.notes[-1][1].startswith("divergence 0.")
    assert contents(tmp_path / "out") == contents(tuned.folder)


def test_resuming_goes_on_from_the_state_kept(
    coarse: Checkpoint, original: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "_SAVE_EVERY", 2)
    with pytest.raises(KeyboardInterrupt):
        tune_checkpoint(coarse, original, WINDOWS, tmp_path / "out", TUNING, None, Stop(5))
    rest = Stop(-1)
    tune_checkpoint(coarse, original, WINDOWS, tmp_path / "out", TUNING, None, rest)
    assert rest.notes[0] == (4, "resumed")
    assert len(rest.notes) == 1 + 5


def test_stop_before_the_manifest_and_leftovers_of_a_kill_do_no_harm(
    coarse: Checkpoint, original: nn.Module, tuned: Checkpoint, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = tmp_path / "out"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tuning_run, "write_manifest", stop)
        with pytest.raises(KeyboardInterrupt):
            tune_checkpoint(coarse, original, WINDOWS, folder, TUNING)
    (folder / ".training.safetensors.x3k").write_bytes(b"half a file")
    tune_checkpoint(coarse, original, WINDOWS, folder, TUNING)
    assert contents(folder) == contents(tuned.folder)


def test_other_settings_do_not_resume_a_run(
    coarse: Checkpoint, tuned: Checkpoint, original: nn.Module, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        tune_checkpoint(coarse, original, WINDOWS, folder, TUNING, None, Stop(1))
    for other in ({"epochs": 4}, {"rate": 1e-3}, {"batch": 2}):
        with pytest.raises(LiftError, match="other settings or another model; repeat those"):
            tune_checkpoint(coarse, original, WINDOWS, folder, dataclasses.replace(TUNING, **other))
    with pytest.raises(LiftError, match="unfinished run with other settings"):
        tune_checkpoint(coarse, original, WINDOWS.flip(0), folder, TUNING)
    with pytest.raises(LiftError, match="unfinished run with other settings"):
        tune_checkpoint(tuned, original, WINDOWS, folder, TUNING)


def test_folder_that_holds_something_is_left_alone(
    coarse: Checkpoint, original: nn.Module, tiny_llama: Path
) -> None:
    with pytest.raises(LiftError, match="holds a finished checkpoint"):
        tune_checkpoint(coarse, original, WINDOWS, coarse.folder, TUNING)
    with pytest.raises(LiftError, match="exists and is not empty"):
        tune_checkpoint(coarse, original, WINDOWS, tiny_llama, TUNING)


def test_checkpoint_without_input_scales_is_tuned(
    tiny_llama: Path, original: nn.Module, tmp_path: Path
) -> None:
    source = open_source(str(tiny_llama))
    plain = quantise_model(source, Recipe(CODES["LQ-16/8"], "in"), tmp_path / "plain")
    made = tune_checkpoint(plain, original, WINDOWS, tmp_path / "out", TUNING)
    assert far(original, made) < far(original, plain)
    assert all(whitening.pre is None for whitening in made.whitenings().values())
    assert made.manifest.layers == plain.manifest.layers


def test_model_of_another_dtype_is_tuned(tmp_path: Path) -> None:
    folder = write_tiny_llama(
        tmp_path / "m", dtype=torch.bfloat16, tie_word_embeddings=False, attention_bias=True
    )
    tensors = load_file(folder / "model.safetensors")
    for name in [n for n in tensors if n.endswith("bias")]:
        tensors[name] = torch.randn_like(tensors[name])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    made = quantise_model(open_source(str(folder)), Recipe(CODES["LQ-16/8"]), tmp_path / "plain")
    half = load(folder, torch.bfloat16)
    better = tune_checkpoint(made, half, WINDOWS, tmp_path / "out", TUNING)
    assert half.lm_head.weight.dtype == torch.bfloat16  # the caller's model is not changed
    assert far(half, better) < far(half, made)
    bias = "model.layers.0.self_attn.q_proj.bias"
    assert torch.equal(better.tensors("carried.safetensors")[bias], tensors[bias])


def test_training_that_diverges_says_what_to_do(
    coarse: Checkpoint, original: nn.Module, tmp_path: Path
) -> None:
    with pytest.raises(LiftError, match="not finite: lower the learning rate"):
        tune_checkpoint(coarse, original, WINDOWS, tmp_path / "o", Tuning(3, 1e30, 4))


def test_another_model_than_the_checkpoints_is_refused(coarse: Checkpoint, tmp_path: Path) -> None:
    other = load(write_tiny_llama(tmp_path / "m", vocab_size=80))
    with pytest.raises(LiftError, match=r"80 tokens, the checkpoint 96: .* not the model it"):
        tune_checkpoint(coarse, other, WINDOWS % 80, tmp_path / "o", TUNING)
    assert not (tmp_path / "o").exists()
