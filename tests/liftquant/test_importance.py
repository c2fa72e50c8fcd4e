from pathlib import Path

import torch

from algo.source import open_source
from liftquant.importance import column_importance, importance_file


def _model(folder: Path) -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()


def test_importance_is_the_mean_square_of_inputs(tiny_llama: Path) -> None:
    model = _model(tiny_llama)
    tokens = torch.randint(96, (3, 20), generator=torch.Generator().manual_seed(1))
    names = open_source(str(tiny_llama)).linears
    found = column_importance(model, names, tokens, batch=2)
    assert list(found) == names
    with torch.inference_mode():
        first = model.model.layers[0]
        x = first.input_layernorm(model.model.embed_tokens(tokens)).reshape(-1, 48)
    for projection in ("q", "k", "v"):
        torch.testing.assert_close(
            found[f"model.layers.0.self_attn.{projection}_proj"], x.square().mean(0)
        )
    assert found["model.layers.1.mlp.down_proj"].shape == (80,)


def test_batch_changes_nothing_and_the_model_is_left_as_it_was(tiny_llama: Path) -> None:
    model = _model(tiny_llama)
    tokens = torch.randint(96, (5, 8), generator=torch.Generator().manual_seed(2))
    names = open_source(str(tiny_llama)).linears
    one, other = (column_importance(model, names, tokens, batch) for batch in (1, 4))
    for name in names:
        torch.testing.assert_close(one[name], other[name])
        assert not model.get_submodule(name)._forward_pre_hooks


def test_file_is_made_once(reading_llama: Path, tmp_path: Path) -> None:
    names = open_source(str(reading_llama)).linears
    tokens = torch.arange(40)[None]
    path = tmp_path / "importance.safetensors"
    made = importance_file(path, str(reading_llama), names, tokens)
    again = importance_file(path, "nowhere", names, tokens)
    assert all(torch.equal(made[name], again[name]) for name in names)
