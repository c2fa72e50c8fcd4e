"""What is read of a model without its weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from algo.errors import LiftError
from algo.footprint import TensorShape
from algo.shapes import read_shapes, source_shapes
from algo.source import open_source
from tests.conftest import write_tiny_llama


def test_config_alone_gives_what_the_weights_give(tmp_path: Path) -> None:
    for i, untied in enumerate((False, True)):
        folder = write_tiny_llama(
            tmp_path / str(i), tie_word_embeddings=not untied, dtype=torch.bfloat16
        )
        shutil.copyfile(folder / "config.json", tmp_path / "alone.json")
        told = read_shapes(str(tmp_path / "alone.json"))
        found = source_shapes(open_source(str(folder)))
        assert (told.linears, told.carried) == (found.linears, found.carried)
        assert list(told.linears) == list(found.linears)  # files are numbered in this order
        assert (told.head is None) == (not untied)
        assert told.dtypes_from == "config.json says so"


def test_headers_say_dtypes_where_there_are_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = write_tiny_llama(tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].half()
    save_file(tensors, folder / "model.safetensors")
    shapes = read_shapes(str(folder))
    assert shapes.dtypes_from == "read from the files' headers"
    assert shapes.carried["model.norm.weight"] == TensorShape((48,), torch.float16)
    assert shapes.carried["model.embed_tokens.weight"].dtype == torch.float32
    assert shapes.carried == source_shapes(open_source(str(folder))).carried
    asked = read_shapes(str(folder), torch.bfloat16)
    assert {t.dtype for t in asked.carried.values()} == {torch.bfloat16}
    assert asked.dtypes_from == "as asked"


def test_config_without_a_dtype_is_said_to_have_none(tmp_path: Path) -> None:
    fields = json.loads((write_tiny_llama(tmp_path / "m") / "config.json").read_text())
    del fields["dtype"]
    (tmp_path / "c.json").write_text(json.dumps(fields))
    shapes = read_shapes(str(tmp_path / "c.json"))
    assert shapes.dtypes_from == "config.json says nothing"
    assert {t.dtype for t in shapes.carried.values()} == {torch.bfloat16}


def test_gguf_is_read_without_its_weights(real_gguf: Path) -> None:
    told = read_shapes(str(real_gguf))
    found = source_shapes(open_source(str(real_gguf)))
    assert (told.linears, told.carried) == (found.linears, found.carried)
    assert (told.head, told.vocabulary, told.hidden) == (None, 49152, 576)


def test_fused_experts_are_carried(tmp_path: Path) -> None:
    fields = {
        "model_type": "qwen3_moe", "hidden_size": 32, "intermediate_size": 48,
        "moe_intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "num_experts": 4, "vocab_size": 64,
    }  # fmt: skip
    (tmp_path / "moe.json").write_text(json.dumps(fields))
    shapes = read_shapes(str(tmp_path / "moe.json"))
    fused = {n: t.shape for n, t in shapes.carried.items() if len(t.shape) == 3}
    assert fused == {
        f"model.layers.{i}.mlp.experts.{name}": shape
        for i in (0, 1)
        for name, shape in [("gate_up_proj", (4, 32, 32)), ("down_proj", (4, 32, 16))]
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type": "zork"}', "config.json cannot be used"),
        ('{"hidden_size": 8}', "config.json cannot be used"),
        ("{", "config.json cannot be used"),
        ('{"model_type": "llama", "hidden_size": "many"}', "cannot be used"),
        ('{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 0}', "c.json"),
        ('{"model_type": "llama", "vocab_size": -5}', "c.json: no causal language model"),
        ('{"model_type": "vit"}', "c.json: no causal language model"),
        ('{"model_type": "gpt2"}', "c.json: the model has no linear layers in numbered blocks"),
        (
            '{"model_type": "llama", "quantization_config": {"quant_method": "gptq", "bits": 4}}',
            "c.json: the config is of quantised weights",
        ),
    ],
)
def test_config_that_cannot_be_planned_for_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(LiftError, match=message):
        read_shapes(str(tmp_path / "c.json"))


def test_what_is_no_model_is_named(tmp_path: Path, finished: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and no more")
    (tmp_path / "empty").mkdir()
    folder = write_tiny_llama(tmp_path / "cut")
    (folder / "model.safetensors").write_bytes(b"x" * 20)
    for model, message in [
        ("no/such/thing/at/all", "does not exist"),
        ("none/config.json", "does not exist"),
        (str(tmp_path / "none.gguf"), "does not exist"),
        (str(tmp_path / "broken.gguf"), "cannot be read as GGUF"),
        (str(tmp_path / "empty"), "holds no config.json"),
        (str(finished), "is a liftquant checkpoint already"),
        (str(folder), "model.safetensors cannot be read"),
        ("nobody/nothing", "the hub did not deliver its config.json"),
    ]:
        with pytest.raises(LiftError, match=message):
            read_shapes(model)
