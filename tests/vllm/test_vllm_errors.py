"""What cannot be served is refused, in words; no weights are served that did not come."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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
    from torch import nn

    with pytest.raises(LiftError, match=r"is a Embedding of vLLM.*only linear layers"):
        _config(llama).get_quant_method(nn.Embedding(2, 2), Q)


def test_the_rest_is_left_to_vllm(llama: Path) -> None:
    from torch import nn
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod

    config = _config(llama)
    assert isinstance(config.get_quant_method(_linear(), "lm_head"), UnquantizedLinearMethod)
    assert config.get_quant_method(nn.Embedding(2, 2), "model.embed_tokens") is None


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
