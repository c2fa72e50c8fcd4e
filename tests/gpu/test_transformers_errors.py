"""Damaged checkpoints are refused with one error that names the place; never random weights."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

import liftquant  # noqa: F401
from algo.checkpoint import Checkpoint
from algo.errors import LiftError
from gpu.transformers_layers import StoredLinear
from tests.gpu.tiny_checkpoints import write_calibrated

LAYER = "model.layers.0.self_attn.q_proj"
OTHER = "model.layers.0.mlp.down_proj"
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return write_calibrated(tmp_path_factory.mktemp("calibrated"))


@pytest.fixture
def damaged(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint.folder, tmp_path / "damaged"))


def edit_tensors(folder: Path, file: str, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file)


def edit_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config["quantization_config"])
    path.write_text(json.dumps(config))


def refuses(folder: Path, message: str, **keywords: Any) -> None:
    with pytest.raises(LiftError, match=message):
        AutoModelForCausalLM.from_pretrained(folder, **keywords)


@pytest.mark.parametrize("leaf", ["weight", "scales", "pre", "turn_left", "turn_right", "bias"])
@pytest.mark.parametrize("lenient", [False, True])
def test_missing_tensor_is_named(damaged: Path, leaf: str, lenient: bool) -> None:
    file = "carried.safetensors" if leaf == "bias" else "block-000.safetensors"
    edit_tensors(damaged, file, lambda t: t.pop(f"{LAYER}.{leaf}"))
    message = rf"tensor {LAYER}.{leaf} is in none of the files; copy the checkpoint again"
    refuses(damaged, message, ignore_mismatched_sizes=lenient)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("block-001.safetensors", "model.layers.1.mlp.up_proj.weight"),
        ("carried.safetensors", "model.layers.1.input_layernorm.weight"),
        ("carried.safetensors", "model.embed_tokens.weight"),
    ],
)
def test_tensor_missing_from_what_is_given_is_named(
    checkpoint: Checkpoint, file: str, name: str
) -> None:
    """A state dict in the place of files, which can be looked at only once it is loaded."""
    tensors: Tensors = {}
    for other in checkpoint.folder.glob("*.safetensors"):
        if other.name != "whitening.safetensors":
            tensors |= load_file(other)
    assert name in load_file(checkpoint.folder / file)
    del tensors[name]
    config = AutoConfig.from_pretrained(checkpoint.folder)
    with pytest.raises(LiftError, match=f"tensor {name} is"):
        AutoModelForCausalLM.from_config(config).__class__.from_pretrained(
            None, config=config, state_dict=tensors
        )


@pytest.mark.parametrize("name", ["model.norm.weight", "model.embed_tokens.weight"])
def test_missing_carried_tensor_is_named(damaged: Path, name: str) -> None:
    edit_tensors(damaged, "carried.safetensors", lambda t: t.pop(name))
    refuses(damaged, f"tensor {name} is in none of the files")


def spread(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A device_map of two; what spreads the model loses the marks that tensors were loaded."""

    def dispatch(model: Any, _: Any, device_map: Any, *__: Any) -> None:
        model.hf_device_map = device_map
        for parameter in model.parameters():
            vars(parameter).pop("_is_hf_initialized", None)

    monkeypatch.setattr("transformers.modeling_utils.accelerate_dispatch", dispatch)
    return {"": "cpu:0", "model.layers.1": "cpu:1"}


@pytest.mark.parametrize("name", ["model.norm.weight", "model.embed_tokens.weight"])
def test_missing_tensor_of_a_model_on_several_devices_is_named(
    damaged: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    places = spread(monkeypatch)
    AutoModelForCausalLM.from_pretrained(damaged, device_map=places)
    AutoModelForSequenceClassification.from_pretrained(damaged, device_map=places)  # a new head
    edit_tensors(damaged, "carried.safetensors", lambda t: t.pop(name))
    refuses(damaged, f"tensor {name} is in none of the files", device_map=places)


@pytest.mark.parametrize("name", ["model.norm.weight", "model.embed_tokens.weight"])
def test_carried_tensor_of_integers_is_named(damaged: Path, name: str) -> None:
    edit_tensors(damaged, "carried.safetensors", lambda t: t.update({name: t[name].int()}))
    refuses(damaged, f"carried.safetensors: tensor {name} is I32, not floating point")


def test_missing_file_is_named(damaged: Path) -> None:
    (damaged / "block-001.safetensors").unlink()
    refuses(damaged, r"block-001.safetensors: .*copy the checkpoint again")


def test_truncated_file_is_named(damaged: Path) -> None:
    path = damaged / "block-001.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refuses(damaged, r"block-001.safetensors: .*copy the checkpoint again")


@pytest.mark.parametrize(
    ("leaf", "change", "message"),
    [
        ("weight", lambda t: t[:, :-1].contiguous(), r"U32 of shape \(48, \d+\); config.json"),
        ("weight", lambda t: t.view(torch.int32), r"is I32 of shape .* asks for torch.uint32"),
        ("scales", lambda t: t.half(), r"is F16 of .* asks for torch.bfloat16"),
        ("scales", lambda t: t[1:].clone(), r"shape \(47,\); config.json asks for .*\(48,\)"),
        ("scales", lambda t: t * torch.nan, f"layer {LAYER}: a row scale is not below"),
        ("pre", lambda t: t * 0, f"layer {LAYER}: whitening: an input scale is not between"),
        ("turn_left", lambda t: t * torch.inf, f"layer {LAYER}: whitening: a turn of shape"),
    ],
)
def test_tensor_of_another_kind_is_named(
    damaged: Path, leaf: str, change: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    def put(tensors: Tensors) -> None:
        tensors[f"{LAYER}.{leaf}"] = change(tensors[f"{LAYER}.{leaf}"])

    edit_tensors(damaged, "block-000.safetensors", put)
    refuses(damaged, message, ignore_mismatched_sizes=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(version=2), "version 2 is newer .* pip install -U liftquant"),
        (lambda c: c["layers"][OTHER].update(code="LQ-9/9"), f"{OTHER} names code LQ-9/9"),
        (lambda c: c["layers"][OTHER].update(whitening="in3"), f"{OTHER} names rotation in3"),
        (lambda c: c["layers"][OTHER].update(shape=[48, 90]), "rotation in80 is for 80 inputs"),
        (lambda c: c["layers"][OTHER].update(shape=[49, 80]), f"no linear layer {OTHER} of 80"),
        (
            lambda c: c["rotations"]["in80"].update(left="AAAA"),
            "rotation in80, left: not the base64",
        ),
        (lambda c: c.pop("codes"), "quantization_config: codes: Field required"),
        (lambda c: c.update(digits=3), "digits=3 is neither 1"),
        (
            lambda c: c["rotations"]["in80"].update(
                left=base64.b64encode(bytes(4 * 64)).decode(), sizes=[8, 10]
            ),
            "whitening: left factor is not orthogonal",
        ),
    ],
)
def test_damaged_section_is_refused(
    damaged: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_config(damaged, change)
    refuses(damaged, message)


def test_layer_the_model_does_not_have_is_named(damaged: Path) -> None:
    def rename(section: dict[str, Any]) -> None:
        layer = section["layers"].pop(OTHER)
        section["layers"]["model.layers.7.mlp.down_proj"] = {**layer, "pre": None, "turns": None}

    edit_config(damaged, rename)
    refuses(damaged, "no linear layer model.layers.7.mlp.down_proj of 80 inputs and 48 outputs")


def test_transformers_does_not_split_it(checkpoint: Checkpoint) -> None:
    config = AutoConfig.from_pretrained(checkpoint.folder)
    config.distributed_config = object()
    refuses(checkpoint.folder, "vLLM can", config=config)


def test_places_are_not_called_and_tell_what_is_offloaded() -> None:
    place = StoredLinear({"weight": ((2, 3), torch.uint32)})
    with pytest.raises(LiftError, match="is not loaded yet"):
        place(torch.zeros(1, 3))
    with pytest.raises(LiftError, match=r"layer a.b: weight is offloaded"):
        place.loaded("a.b")
