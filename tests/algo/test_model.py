"""A checkpoint as a transformers model."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from algo.checkpoint import Checkpoint
from algo.errors import LiftError
from algo.model import load_any, load_quantised
from algo.quantise import quantise_model
from algo.source import open_source
from tests.algo.conftest import RECIPE
from tests.conftest import write_tiny_llama


def test_model_of_a_checkpoint_is_the_original_with_decoded_weights(
    finished: Path, tiny_llama: Path
) -> None:
    checkpoint = Checkpoint(finished)
    quantised = load_quantised(checkpoint)
    assert not quantised.training
    original, _ = load_original_model(tiny_llama)
    whitenings = checkpoint.whitenings()
    for name in checkpoint.manifest.layers:
        dense = whitenings[name].undo(checkpoint.matrix(name).dequantise())
        original.get_submodule(name).weight.data = dense
    tokens = torch.arange(40)[None] % 96
    with torch.inference_mode():
        torch.testing.assert_close(
            quantised(tokens).logits, original(tokens).logits, rtol=1e-4, atol=1e-4
        )


def load_original_model(folder: Path) -> tuple[torch.nn.Module, None]:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval(), None


def test_integer_model_is_close_to_the_real_one(finished: Path) -> None:
    tokens = torch.arange(40)[None] % 96
    with torch.inference_mode():
        real = load_quantised(Checkpoint(finished))(tokens).logits
        integer = load_quantised(Checkpoint(finished), digits=2)(tokens).logits
    # two digits resolve 2**-15 of a token's largest activation, in each of 14 layers
    torch.testing.assert_close(integer, real, rtol=0, atol=14 * 2**-15)


@pytest.mark.parametrize("untied", [True, False])
def test_biases_and_heads_survive(tmp_path: Path, untied: bool) -> None:
    model = write_tiny_llama(
        tmp_path / "model", attention_bias=True, tie_word_embeddings=not untied
    )
    tensors = load_file(model / "model.safetensors")
    for name in [n for n in tensors if n.endswith("bias")]:
        tensors[name] = torch.randn_like(tensors[name])
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    checkpoint = quantise_model(open_source(str(model)), RECIPE, tmp_path / "out")
    loaded = load_quantised(checkpoint)
    layer = loaded.get_submodule("model.layers.0.self_attn.q_proj")
    assert torch.equal(layer.bias, tensors["model.layers.0.self_attn.q_proj.bias"])
    assert ("lm_head.weight" in checkpoint.tensors("carried.safetensors")) == untied
    tied = loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert tied != untied


def test_original_loads_without_a_tokenizer_only_with_an_error(tiny_llama: Path) -> None:
    with pytest.raises(LiftError, match="no tokenizer can be loaded"):
        load_any(str(tiny_llama))
