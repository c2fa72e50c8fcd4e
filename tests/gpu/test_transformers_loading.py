"""from_pretrained and save_pretrained: dtypes, devices, digits, shards, floating point."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

import liftquant
from algo.checkpoint import Checkpoint
from algo.errors import LiftError
from algo.layer import ReferenceLinear
from algo.model import load_quantised
from algo.serving_files import GUARD, GUARD_KEY
from gpu.transformers_layers import ServedLinear
from tests.gpu.tiny_checkpoints import prompt, write_calibrated

TOKENS = prompt(seed=9)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return write_calibrated(tmp_path_factory.mktemp("calibrated"))


def load(folder: Path, **keywords: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, **keywords)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(TOKENS).logits
    return out


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the model that files of a directory hold."""
    index = folder / "model.safetensors.index.json"
    names = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else ()
    tensors = {}
    for name in names or ["model.safetensors"]:
        with safe_open(folder / name, framework="pt") as file:
            tensors |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return tensors


def test_fixture_has_everything(checkpoint: Checkpoint) -> None:
    leaves = {name.rpartition(".")[2] for name in stored(checkpoint.folder)}
    assert leaves == {"weight", "scales", "pre", "turn_left", "turn_right", "bias"}
    assert len(checkpoint.codes) == 3


@pytest.mark.parametrize("digits", [1, 2])
def test_digits_are_the_user_s(checkpoint: Checkpoint, digits: Any) -> None:
    with pytest.warns(UserWarning, match="loading attributes .*digits"):
        model = load(
            checkpoint.folder,
            dtype=torch.float32,
            quantization_config=liftquant.LiftquantConfig(digits=digits),
        )
    reference = load_quantised(checkpoint, digits=digits).float()
    assert torch.equal(logits(model), logits(reference))
    assert model.config.quantization_config.digits == digits


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, "auto"])
def test_dtype_is_that_of_activations_and_carried_tensors(
    checkpoint: Checkpoint, dtype: Any
) -> None:
    model = load(checkpoint.folder, dtype=dtype)
    expected = torch.bfloat16 if dtype == "auto" else dtype
    assert {p.dtype for p in model.parameters()} == {expected}
    reference = load_quantised(checkpoint, digits=1)
    biases = {f"{name}.bias" for name in checkpoint.manifest.layers}
    for name, parameter in reference.named_parameters():
        if name not in biases:  # which stay as they are stored, and are added in float32
            parameter.data = parameter.data.to(expected)
    found = logits(model)
    assert found.dtype == expected
    assert torch.equal(found, logits(reference))


@pytest.mark.parametrize("place", [{"": "cpu"}, "auto", "cpu"])
def test_device_maps_change_nothing(checkpoint: Checkpoint, place: Any) -> None:
    model = load(checkpoint.folder, device_map=place)
    assert torch.equal(logits(model), logits(load(checkpoint.folder)))


def test_moving_and_casting_leave_the_layers_integers(checkpoint: Checkpoint) -> None:
    model = load(checkpoint.folder, dtype=torch.float32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cast = copy.deepcopy(model).to("cpu").to(torch.float16)
    for name, value in cast.state_dict().items():
        # of what is not quantised the dtype is the model's
        carried = value.dtype == torch.float16
        assert torch.equal(value, before[name].half() if carried else before[name]), name
    # torch casts the rotary tables, too
    loaded = load(checkpoint.folder, dtype=torch.float16).to(torch.float16)
    assert torch.equal(logits(cast), logits(loaded))
    assert all(b.is_meta for b in model.to("meta").buffers())


def test_headless_model_gives_the_same_states(checkpoint: Checkpoint) -> None:
    whole = load(checkpoint.folder)
    base = AutoModel.from_pretrained(checkpoint.folder)
    assert any(isinstance(module, ServedLinear) for module in base.modules())
    with torch.no_grad():
        assert torch.equal(
            base(TOKENS).last_hidden_state,
            whole(TOKENS, output_hidden_states=True).hidden_states[-1],
        )


def test_new_heads_may_be_new(checkpoint: Checkpoint) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint.folder, num_labels=3)
    assert isinstance(model.model.layers[0].mlp.up_proj, ServedLinear)
    assert logits(model).shape == (2, 3)


@pytest.mark.parametrize(
    ("places", "named"),
    [
        ({"": "cpu", "model.layers.1": "disk"}, "cpu, disk"),
        ({"": "cpu", "model.layers.1": 0}, "cpu"),
        ({"": "disk"}, "disk"),
    ],
)
def test_offloading_is_refused(checkpoint: Checkpoint, places: Any, named: str) -> None:
    with pytest.raises(LiftError, match=f"device_map offloads to {named}; give one that keeps"):
        load(checkpoint.folder, device_map=places)


@pytest.mark.parametrize("size", ["4KB", "50GB"])
def test_saved_copy_holds_the_stored_tensors_and_loads(
    checkpoint: Checkpoint, tmp_path: Path, size: str
) -> None:
    model = load(checkpoint.folder, dtype="auto")
    model.save_pretrained(tmp_path, max_shard_size=size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (size == "4KB")
    original, copied = stored(checkpoint.folder), stored(tmp_path)
    assert copied.keys() == original.keys()
    for name, tensor in original.items():
        assert copied[name].dtype == tensor.dtype, name
        assert torch.equal(copied[name], tensor), name
    again = load(tmp_path, dtype="auto")
    assert torch.equal(logits(again), logits(model))
    assert json.loads((tmp_path / "config.json").read_text())[GUARD_KEY] == GUARD


def test_copy_is_not_saved_over_the_checkpoint(checkpoint: Checkpoint) -> None:
    model = load(checkpoint.folder)
    before = sorted(file.name for file in checkpoint.folder.iterdir())
    with pytest.raises(LiftError, match=r"out holds a checkpoint.*; give another directory"):
        model.save_pretrained(checkpoint.folder)
    assert sorted(file.name for file in checkpoint.folder.iterdir()) == before


def test_guard_of_another_version_is_one(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint.folder, tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    config[GUARD_KEY] = "this is a liftquant checkpoint: what another version says of it"
    (folder / "config.json").write_text(json.dumps(config))
    assert torch.equal(logits(load(folder)), logits(load(checkpoint.folder)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_layers_are_saved_as_they_are_stored_whatever_the_dtype(
    checkpoint: Checkpoint, dtype: Any
) -> None:
    state = load(checkpoint.folder, dtype=dtype).to(dtype).state_dict()
    original = stored(checkpoint.folder)
    layers = tuple(f"{name}." for name in checkpoint.manifest.layers)
    for name, tensor in original.items():
        if name.startswith(layers):
            assert state[name].dtype == tensor.dtype, name
            assert torch.equal(state[name], tensor), name
        else:
            assert state[name].dtype == dtype, name


def test_saved_digits_are_those_it_was_loaded_with(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="digits"):
        model = load(checkpoint.folder, quantization_config=liftquant.LiftquantConfig(digits=2))
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert {m.digits for m in again.modules() if isinstance(m, ServedLinear)} == {2}


def test_copy_of_a_model_saves_itself(checkpoint: Checkpoint, tmp_path: Path) -> None:
    model = load(checkpoint.folder)
    copied = copy.deepcopy(model)
    copied.model.norm.weight.data.fill_(7)
    copied.save_pretrained(tmp_path)
    assert bool((stored(tmp_path)["model.norm.weight"] == 7).all())
    assert GUARD_KEY in json.loads((tmp_path / "config.json").read_text())


def test_state_dict_goes_back_into_the_model_it_is_of(checkpoint: Checkpoint) -> None:
    model = load(checkpoint.folder)
    before, state = logits(model), model.state_dict()
    state["model.norm.weight"] = state["model.norm.weight"] + 1
    model.load_state_dict(state)
    assert not torch.equal(logits(model), before)
    name = "model.layers.1.mlp.up_proj.scales"
    with pytest.raises(LiftError, match=f"{name} is another tensor"):
        model.load_state_dict({**state, name: state[name] * 2})
    with pytest.raises(LiftError, match=f"{name} is another tensor"):
        model.load_state_dict({key: value for key, value in state.items() if key != name})


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_dequantised_model_is_plain(checkpoint: Checkpoint, tmp_path: Path, dtype: Any) -> None:
    model = load(checkpoint.folder, dtype=torch.float32)
    assert model.dequantize(dtype=dtype) is model
    assert not any(isinstance(module, ServedLinear) for module in model.modules())
    assert {p.dtype for p in model.parameters()} == {dtype or torch.float32}
    for name, layer in load_quantised(checkpoint).named_modules():
        if isinstance(layer, ReferenceLinear):
            weight = layer.whitening.undo(layer.matrix.dequantise().double())
            plain = model.get_submodule(name)
            assert type(plain) is nn.Linear
            assert torch.equal(plain.weight, weight.to(plain.weight.dtype))
            assert (plain.bias is None) == (layer.bias is None)
            if layer.bias is not None:
                assert torch.equal(plain.bias, layer.bias.to(plain.bias.dtype))
    model.save_pretrained(tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    assert torch.equal(logits(load(tmp_path, dtype="auto")), logits(model))


def test_model_is_not_for_training(checkpoint: Checkpoint) -> None:
    model = load(checkpoint.folder)
    assert not model.hf_quantizer.is_trainable
    assert model.hf_quantizer.is_serializable()
    with pytest.raises(ValueError, match=r"half.* is not supported for quantized model"):
        model.half()  # transformers' own rule; .to(torch.float16) does it


def test_other_models_are_not_quantised_on_loading(checkpoint: Checkpoint) -> None:
    with pytest.raises(LiftError, match="liftquant quantize MODEL FOLDER"):
        load(
            checkpoint.folder.parent / "model",
            quantization_config=liftquant.LiftquantConfig(digits=2),
        )


def test_config_alone_says_little_in_words(checkpoint: Checkpoint) -> None:
    assert repr(liftquant.LiftquantConfig(digits=2)) == "LiftquantConfig(digits=2, 0 layers)"
    section = AutoConfig.from_pretrained(checkpoint.folder).quantization_config
    assert repr(liftquant.LiftquantConfig(**section)) == "LiftquantConfig(digits=1, 14 layers)"
    with pytest.raises(LiftError, match="digits=3 is neither 1"):
        liftquant.LiftquantConfig(digits=3)
