"""Where models come from."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from algo.errors import LiftError
from algo.model import load_quantised
from algo.quantise import quantise_model
from algo.source import open_source
from tests.algo.conftest import RECIPE
from tests.conftest import write_tiny_llama


def test_sources_that_are_none_are_named(tmp_path: Path, finished: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"x")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and no more")
    (tmp_path / "empty").mkdir()
    for model, message in [
        ("no/such/thing/at/all", "does not exist"),
        (str(tmp_path / "none.gguf"), "does not exist"),
        (str(tmp_path / "weights.bin"), "neither a .gguf file nor a model directory"),
        (str(tmp_path / "broken.gguf"), "cannot be read as GGUF"),
        (str(tmp_path / "empty"), "holds no config.json"),
        (str(finished), "is a liftquant checkpoint already"),
        ("nobody/nothing", "the hub did not deliver it"),
    ]:
        with pytest.raises(LiftError, match=message):
            open_source(model)


def test_truncated_safetensors_is_named(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(LiftError, match=r"model.safetensors cannot be read"):
        open_source(str(folder))


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LiftError, match=r"hold no tensor model.layers.1.mlp.up_proj.weight"):
        open_source(str(folder))


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    for wrong in (tensors[name][:-1].contiguous(), tensors[name].to(torch.int8)):
        save_file({**tensors, name: wrong}, folder / "model.safetensors")
        with pytest.raises(LiftError, match=f"tensor {name} is .* the model needs floating point"):
            open_source(str(folder))


def test_tensors_the_model_does_not_know_are_left_out(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(6)
    save_file(tensors, folder / "model.safetensors")
    made = quantise_model(open_source(str(folder)), RECIPE, tmp_path / "out")
    assert load_quantised(made)


@pytest.mark.parametrize("config", ['{"model_type": "zork"}', "{", None])
def test_config_that_is_none_is_refused(tmp_path: Path, config: str | None) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    (folder / "config.json").unlink()
    if config is not None:
        (folder / "config.json").write_text(config)
    with pytest.raises(LiftError, match=r"config\.json"):
        open_source(str(folder))


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(LiftError, match="pickles are not read"):
        open_source(str(folder))


def test_real_gguf_is_read(real_gguf: Path) -> None:
    source = open_source(str(real_gguf))
    assert len(source.linears) == 210
    shapes = {tuple(weight.shape) for _, weight in source.linear_weights()}
    assert shapes == {(576, 576), (192, 576), (1536, 576), (576, 1536)}
    assert "lm_head.weight" not in source.carried_names()
    assert len(source.carried_names()) == 62
