"""From a model to a checkpoint: a tiny random Llama."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from algo import layer_tensors, quantise
from algo.checkpoint import Checkpoint
from algo.errors import LiftError
from algo.matrix import AXES, Axis, PackedMatrix, quantise_matrix
from algo.quantise import Recipe, quantise_model
from algo.source import open_source
from algo.whitening import random_whitening
from tests.algo.conftest import RECIPE
from tests.conftest import CODES, write_tiny_llama


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", ["LQ-24/10", "LQ-2/1+10", "LQ-2/1+6^3"])
def test_checkpoint_is_bit_identical_to_what_was_encoded(
    tiny_llama: Path, tmp_path: Path, name: str, axis: Axis
) -> None:
    source = open_source(str(tiny_llama))
    made = quantise_model(source, Recipe(CODES[name], axis, 7), tmp_path / "out")
    assert list(made.manifest.layers) == source.linears
    for layer in source.linears[:3]:
        weight = source.tensor(f"{layer}.weight")
        whitened = random_whitening(weight.shape[1], 7).weights(weight)
        direct = quantise_matrix(whitened, CODES[name], axis)
        stored = made.matrix(layer)
        assert np.array_equal(stored.words, direct.words)
        assert torch.equal(stored.scales, direct.scales)
        assert stored.code == direct.code


def test_linear_layers_of_all_blocks_and_nothing_else(finished: Path, tiny_llama: Path) -> None:
    checkpoint = Checkpoint(finished)
    kinds = {name.split(".")[-1] for name in checkpoint.manifest.layers}
    assert kinds == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(checkpoint.manifest.layers) == 14
    original = load_file(tiny_llama / "model.safetensors")
    carried = checkpoint.tensors("carried.safetensors")
    assert set(original) == set(carried) | {f"{n}.weight" for n in checkpoint.manifest.layers}
    assert all(torch.equal(tensor, original[name]) for name, tensor in carried.items())
    assert all(tensor.dtype == original[name].dtype for name, tensor in carried.items())


def test_size_on_disk_is_what_the_bits_say(finished: Path) -> None:
    checkpoint = Checkpoint(finished)
    sizes = checkpoint.payload_bytes()
    packed = sum(checkpoint.matrix(n).payload_bits for n in checkpoint.manifest.layers)
    assert sizes["words"] + sizes["scales"] == packed // 8
    on_disk = sum(path.stat().st_size for path in finished.glob("*.safetensors"))
    assert sum(sizes.values()) == on_disk
    assert sizes["headers"] < 120 * len(checkpoint.manifest.layers) * 2 + 2000
    by_hand = 0
    for file in finished.glob("block-*.safetensors"):
        with safe_open(file, framework="pt") as stored:
            by_hand += sum(stored.get_tensor(name).nbytes for name in stored.keys())  # noqa: SIM118
    assert by_hand == packed // 8


def test_nothing_unfinished_is_left(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "block-000.safetensors", "block-001.safetensors", "carried.safetensors", "config.json",
        "generation_config.json", "liftquant.json", "model.safetensors.index.json",
        "whitening.safetensors",
    }  # fmt: skip


def test_stopped_run_keeps_finished_blocks_and_resumes(
    tiny_llama: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    calls: list[str] = []

    def quantise_until(stop: int) -> None:
        def counted(*args: object, **kwargs: object) -> PackedMatrix:
            if len(calls) == stop:
                raise KeyboardInterrupt
            calls.append("layer")
            return quantise_matrix(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(quantise, "quantise_matrix", counted)

    quantise_until(10)  # in the second block
    with pytest.raises(KeyboardInterrupt):
        quantise_model(open_source(str(tiny_llama)), RECIPE, folder)
    assert (folder / "block-000.safetensors").exists()
    assert not (folder / "block-001.safetensors").exists()
    with pytest.raises(LiftError, match=r"unfinished one .* again to complete it"):
        Checkpoint(folder)
    with pytest.raises(LiftError, match="unfinished run with other settings"):
        quantise_model(open_source(str(tiny_llama)), Recipe(CODES["LQ-16/8"]), folder)
    calls.clear()
    quantise_until(-1)
    quantise_model(open_source(str(tiny_llama)), RECIPE, folder)
    assert len(calls) == 7  # the second block only
    for name in ("block-000", "block-001", "whitening", "carried"):
        file = f"{name}.safetensors"
        assert (folder / file).read_bytes() == (finished / file).read_bytes()


def stop_after(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make quantisation stop as by Ctrl-C after so many layers."""
    done: list[int] = []

    def counted(*args: object, **kwargs: object) -> PackedMatrix:
        if len(done) == layers:
            raise KeyboardInterrupt
        done.append(1)
        return quantise_matrix(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(quantise, "quantise_matrix", counted)


def test_damage_to_an_unfinished_run_is_made_good(
    tiny_llama: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    stop_after(10, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        quantise_model(open_source(str(tiny_llama)), RECIPE, folder)
    (folder / "block-000.safetensors").write_bytes(b"")
    (folder / ".block-001.safetensors.x3k").write_bytes(b"half a file")
    (folder / ".assets.k2").mkdir()
    (folder / ".assets.k2" / "config.json").write_text("{")
    stop_after(-1, monkeypatch)
    quantise_model(open_source(str(tiny_llama)), RECIPE, folder)
    assert {p.name for p in folder.iterdir()} == {p.name for p in finished.iterdir()}
    for file in finished.iterdir():
        if file.name != "liftquant.json":  # that one names the source as it was typed
            assert (folder / file.name).read_bytes() == file.read_bytes()


def test_another_model_does_not_resume_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = write_tiny_llama(tmp_path / "m", seed=1), tmp_path / "out"
    stop_after(10, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        quantise_model(open_source(str(model)), RECIPE, folder)
    write_tiny_llama(model, seed=2)
    with pytest.raises(LiftError, match="unfinished run with other settings or another model"):
        quantise_model(open_source(str(model)), RECIPE, folder)


def test_blocks_of_two_stacks_get_files_of_their_own() -> None:
    names = ["enc.0.q", "enc.1.q", "dec.0.q", "dec.0.k", "enc.0.k"]
    files = quantise.block_files(names)
    assert list(files.values()) == [["enc.0.q", "enc.0.k"], ["enc.1.q"], ["dec.0.q", "dec.0.k"]]


def test_interrupted_write_leaves_no_block(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(tensors: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(layer_tensors, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        quantise_model(open_source(str(tiny_llama)), RECIPE, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["unfinished.json"]


def test_manifest_is_written_last(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []

    def note(folder: Path, *rest: object) -> None:
        seen.append({p.name for p in folder.iterdir()})
        raise KeyboardInterrupt

    monkeypatch.setattr(quantise, "write_manifest", note)
    with pytest.raises(KeyboardInterrupt):
        quantise_model(open_source(str(tiny_llama)), RECIPE, tmp_path / "out")
    assert {"config.json", "carried.safetensors", "block-001.safetensors"} <= seen[0]


def test_folder_that_holds_something_is_left_alone(tiny_llama: Path, finished: Path) -> None:
    source = open_source(str(tiny_llama))
    with pytest.raises(LiftError, match="holds a finished checkpoint"):
        quantise_model(source, RECIPE, finished)
    with pytest.raises(LiftError, match="exists and is not empty"):
        quantise_model(source, RECIPE, tiny_llama)


def damaged_llama(folder: Path, name: str, value: float) -> Path:
    write_tiny_llama(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors[name][3, 5] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    layer = "model.layers.1.mlp.up_proj"
    model = damaged_llama(tmp_path / "model", f"{layer}.weight", value)
    with pytest.raises(LiftError, match=rf"layer {layer}: weight \(3, 5\) is (nan|-inf)"):
        quantise_model(open_source(str(model)), RECIPE, tmp_path / "out")
    assert not (tmp_path / "out" / "liftquant.json").exists()


def test_narrow_layer_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "model", hidden_size=8, num_key_value_heads=1)
    with pytest.raises(
        LiftError, match=r"layer .*k_proj \(2x8\): a stream of 2 weights is too narrow"
    ):
        quantise_model(open_source(str(model)), Recipe(CODES["LQ-12/5+9"], "out"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
