"""What cannot be served is refused, in words; no weights are served that did not come."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from algo.errors import LiftError
from tests.vllm.asking import SMALL, Asking
from tests.vllm.models import write_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")  # of vLLM's imports

Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("llama"), "llama")


def _edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def _without(folder: Path, tmp_path: Path, name: str) -> Path:
    """A copy of a checkpoint without one of the tensors it carries."""
    copied = shutil.copytree(folder, tmp_path / "copy")
    tensors = load_file(copied / "carried.safetensors")
    del tensors[name]
    save_file(tensors, copied / "carried.safetensors")
    return copied


def _refusal(asking: Asking, folder: Path, **variables: str) -> str:
    model = {**SMALL, "model": str(folder), "skip_tokenizer_init": True}
    request = {"model": model, "prompts": [[3]], "tokens": 1, "chats": []}
    run = asking.run(request, **variables)
    assert run.returncode == 1, run.stdout[-3000:]
    return run.stdout


def test_a_tensor_that_does_not_come_is_named(asking: Asking, llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "copy")
    block = folder / "block-000.safetensors"
    tensors = load_file(block)
    del tensors[f"{Q}.scales"]
    save_file(tensors, block)
    assert f"layer {Q}: tensor {Q}.scales is missing" in _refusal(asking, folder)


def test_a_tensor_that_is_not_quantised_and_does_not_come_is_named(
    asking: Asking, llama: Path, tmp_path: Path
) -> None:
    folder = _without(llama, tmp_path, "model.embed_tokens.weight")
    said = _refusal(asking, folder)
    assert "not initialized from checkpoint: {'model.embed_tokens.weight'}" in said


def test_one_bias_of_several_that_does_not_come_is_named(asking: Asking, tmp_path: Path) -> None:
    folder = _without(write_checkpoint(tmp_path, "qwen2"), tmp_path, f"{Q}.bias")
    assert f"layer {Q}: tensor {Q}.bias is missing" in _refusal(asking, folder)


def test_without_the_plugin_vllm_refuses(asking: Asking, llama: Path) -> None:
    said = _refusal(asking, llama, VLLM_PLUGINS="")
    assert "Unknown quantization method: liftquant" in said


def _config(folder: Path, packed: bool = True) -> Any:
    from gpu.vllm_config import LiftquantConfig

    section = json.loads((folder / "config.json").read_text())["quantization_config"]
    config = LiftquantConfig.from_config(section)
    if packed:
        config.packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}
    return config


def _linear() -> Any:
    from vllm.model_executor.layers.linear import QKVParallelLinear

    return object.__new__(QKVParallelLinear)


def test_fused_layers_are_quantised_all_or_none(llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "copy")
    _edit(folder, lambda config: config["quantization_config"]["layers"].pop(Q))
    with pytest.raises(LiftError, match=rf"as one layer, but the checkpoint has {Q} unquantised"):
        _config(folder).get_quant_method(_linear(), "model.layers.0.self_attn.qkv_proj")


def test_what_is_no_linear_layer_is_refused_where_it_is_quantised(llama: Path) -> None:
    with pytest.raises(LiftError, match=r"is a Embedding of vLLM.*only linear layers"):
        _config(llama).get_quant_method(torch.nn.Embedding(2, 2), Q)


def test_the_rest_is_left_to_vllm(llama: Path) -> None:
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod

    config = _config(llama)
    assert isinstance(config.get_quant_method(_linear(), "lm_head"), UnquantizedLinearMethod)
    assert config.get_quant_method(torch.nn.Embedding(2, 2), "model.embed_tokens") is None


def test_a_damaged_section_is_refused(llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "copy")
    _edit(folder, lambda config: config["quantization_config"].update(version=2))
    with pytest.raises(LiftError, match="version 2 is newer"):
        _config(folder)


@pytest.mark.parametrize("digits", [0, 3, "2"])
def test_other_counts_of_digits_are_refused(llama: Path, digits: object) -> None:
    from types import SimpleNamespace

    with pytest.raises(LiftError, match=r"liftquant_digits=.* is neither 1 .* nor 2"):
        _config(llama).maybe_update_config("m", SimpleNamespace(liftquant_digits=digits))


def test_a_config_reaches_another_process_whole(llama: Path) -> None:
    from types import SimpleNamespace

    config = _config(llama)
    config.maybe_update_config("m", SimpleNamespace(liftquant_digits=2))
    sent = pickle.loads(pickle.dumps(config))
    assert sent.serving.as_json() == config.serving.as_json()
    assert (sent.digits, sent.packed_modules_mapping) == (2, config.packed_modules_mapping)
    method = sent.get_quant_method(_linear(), "model.layers.0.self_attn.qkv_proj")
    assert type(method).__name__ == "LiftquantLinearMethod"


def _qkv(**fields: Any) -> Any:
    """What a method sees of vLLM's fused layer: one head of 128 rows, k and v of 64."""
    layer = torch.nn.Module()
    seen = {"prefix": "model.layers.0.self_attn.qkv_proj", "tp_rank": 0, "tp_size": 1}
    rest = {"weight_loader": None, "bias": None}
    for name, value in {**seen, **rest, **fields}.items():
        setattr(layer, name, value)
    return layer


def _created(config: Any, inputs: int = 128, sizes: tuple[int, ...] = (128, 64, 64)) -> Any:
    method = config.get_quant_method(_linear(), "model.layers.0.self_attn.qkv_proj")
    layer = _qkv()
    method.create_weights(layer, inputs, list(sizes), inputs, sum(sizes), "any")
    return method, layer


def test_a_layer_of_other_inputs_is_refused(llama: Path) -> None:
    with pytest.raises(LiftError, match=rf"{Q} has 128 inputs in the checkpoint and 64 in vLLM"):
        _created(_config(llama), inputs=64)


def test_a_layer_of_other_outputs_is_refused(llama: Path) -> None:
    with pytest.raises(LiftError, match=r"outputs \[128, 64, 32\] in vLLM.*of another model"):
        _created(_config(llama), sizes=(128, 64, 32))


def test_a_tensor_of_no_certain_layer_is_refused(llama: Path) -> None:
    _, layer = _created(_config(llama))
    with pytest.raises(LiftError, match=r"does not tell which of .*q_proj.*k_proj.*v_proj"):
        layer.scales.weight_loader(layer.scales, layer.scales.data)


def test_transforms_are_let_go_of_when_the_last_layer_is_built(llama: Path) -> None:
    config = _config(llama)
    layers = [_created(config), _created(config)]  # as if they shared one
    tensors = load_file(llama / "block-000.safetensors")
    for _, layer in layers:
        for shard in "qkv":
            for leaf in ("weight", "scales"):
                parameter = getattr(layer, leaf)
                parameter.weight_loader(parameter, tensors[f"{Q[:-6]}{shard}_proj.{leaf}"], shard)
    layers[0][1].pre.weight_loader(layers[0][1].pre, torch.ones(128), "q")
    for left, (method, layer) in zip((True, False), layers, strict=True):
        method.process_weights_after_loading(layer)
        assert bool(config.transforms) == left


def test_fused_layers_in_different_bases_are_refused(llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "copy")
    # v_proj alone has input scales
    name = "model.layers.0.self_attn.v_proj"
    _edit(folder, lambda c: c["quantization_config"]["layers"][name].update(pre=name))
    method, layer = _created(_config(folder))
    tensors = load_file(folder / "block-000.safetensors")
    for shard in "qkv":
        for leaf in ("weight", "scales"):
            parameter = getattr(layer, leaf)
            parameter.weight_loader(parameter, tensors[f"{Q[:-6]}{shard}_proj.{leaf}"], shard)
    ones = torch.ones(128, dtype=torch.bfloat16)
    layer.pre.weight_loader(layer.pre, ones, "v")
    with pytest.raises(LiftError, match=rf"{Q} and {name} as one layer.*different bases"):
        method.process_weights_after_loading(layer)


def test_layers_go_by_the_names_of_vllm(llama: Path) -> None:
    from vllm.model_executor.models.utils import WeightsMapper

    config = _config(llama)
    config.apply_vllm_mapper(WeightsMapper(orig_to_new_prefix={"model.": "language.model."}))
    named = config.get_quant_method(_linear(), "language.model.layers.0.self_attn.qkv_proj")
    assert type(named).__name__ == "LiftquantLinearMethod"


def test_registering_twice_is_registering_once() -> None:
    from vllm.model_executor.layers.quantization import (
        QUANTIZATION_METHODS,
        get_quantization_config,
    )

    from gpu.vllm_config import LiftquantConfig
    from gpu.vllm_plugin import register

    register()
    register()
    assert QUANTIZATION_METHODS.count("liftquant") == 1
    assert get_quantization_config("liftquant") is LiftquantConfig
