"""A model run block by block, against the same model run whole."""

from pathlib import Path

import pytest
import torch
from torch import nn

from algo.errors import LiftError
from algo.source import open_source
from algo.staged import StagedModel, block_of, blocks_of
from tests.conftest import write_tiny_llama

WINDOWS = torch.randint(96, (5, 12), generator=torch.Generator().manual_seed(1))
BLOCKS = ["model.layers.0", "model.layers.1"]


def whole(folder: Path) -> nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def staged(folder: Path, batch: int = 2) -> StagedModel:
    return StagedModel(open_source(str(folder)), WINDOWS, batch)


def test_blocks_one_by_one_are_the_model(tiny_llama: Path) -> None:
    """Five windows in batches of two: the last one is smaller."""
    made, expected = staged(tiny_llama), whole(tiny_llama)
    assert made.blocks == BLOCKS
    hidden = list(made.inputs)
    assert [len(state) for state in hidden] == [2, 2, 1]
    with torch.no_grad():
        for name in made.blocks:
            block = made.load(name)
            hidden = [made.run(name, block, state) for state in hidden]
            made.drop(name)
        logits = torch.cat([made.head(i, state) for i, state in enumerate(hidden)])
        torch.testing.assert_close(logits, expected(WINDOWS).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("overrides", [
    {"dtype": torch.bfloat16},
    {"tie_word_embeddings": False, "attention_bias": True},
])  # fmt: skip
def test_models_of_other_kinds_run_too(tmp_path: Path, overrides: dict[str, object]) -> None:
    folder = write_tiny_llama(tmp_path / "m", **overrides)
    made, expected, hidden = staged(folder), whole(folder), []
    with torch.no_grad():
        for state in made.inputs:
            for name in made.blocks:
                state = made.run(name, made.load(name), state)  # noqa: PLW2901
            hidden.append(state)
        logits = torch.cat([made.head(i, state) for i, state in enumerate(hidden)])
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, expected(WINDOWS).logits, rtol=1e-5, atol=1e-5)


def test_every_block_is_called_as_in_the_model(tmp_path: Path) -> None:
    """One block sees the whole context, the other a window of it: their masks differ."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=96, hidden_size=48, intermediate_size=80, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, use_sliding_window=True, sliding_window=3,
        layer_types=["full_attention", "sliding_attention"],
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    made, expected = staged(tmp_path), whole(tmp_path)
    with torch.no_grad():
        for index, state in enumerate(made.inputs):
            for name in made.blocks:
                state = made.run(name, made.load(name), state)  # noqa: PLW2901
            logits = made.head(index, state)
            part = torch.split(WINDOWS, 2)[index]
            torch.testing.assert_close(logits, expected(part).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("leaf", ["self_attn.k_proj", "self_attn.o_proj", "mlp.down_proj"])
def test_layer_inputs_are_what_the_layer_sees(tiny_llama: Path, leaf: str) -> None:
    made, model, seen = staged(tiny_llama), whole(tiny_llama), []
    layer = f"{BLOCKS[0]}.{leaf}"
    model.get_submodule(layer).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(WINDOWS)
    block = made.load(BLOCKS[0])
    parts = [made.layer_inputs(BLOCKS[0], block, layer, state) for state in made.inputs]
    expected = seen[0].reshape(-1, seen[0].shape[-1])
    torch.testing.assert_close(torch.cat(parts), expected, rtol=1e-5, atol=1e-5)


def test_hooks_do_not_stay(tiny_llama: Path) -> None:
    made = staged(tiny_llama)
    block = made.load(BLOCKS[0])
    before = made.run(BLOCKS[0], block, made.inputs[0])
    made.layer_inputs(BLOCKS[0], block, f"{BLOCKS[0]}.mlp.up_proj", made.inputs[0])
    made.input_groups(BLOCKS[0], block)
    assert torch.equal(made.run(BLOCKS[0], block, made.inputs[0]), before)
    assert not any(module._forward_pre_hooks for module in block.modules())


def test_layers_of_one_input_are_a_group(tiny_llama: Path) -> None:
    made = staged(tiny_llama)
    for name in BLOCKS:
        groups = made.input_groups(name, made.load(name))
        assert [[layer.rpartition(".")[2] for layer in group] for group in groups] == [
            ["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"],
        ]  # fmt: skip
        assert all(layer.startswith(f"{name}.") for group in groups for layer in group)


def test_only_loaded_blocks_have_memory(tiny_llama: Path) -> None:
    made = staged(tiny_llama)

    def real(name: str) -> list[bool]:
        return [not p.is_meta for p in made.network.get_submodule(name).parameters()]

    assert not any(real(BLOCKS[0]) + real(BLOCKS[1]))
    block = made.load(BLOCKS[1])
    assert all(real(BLOCKS[1]))
    assert not any(real(BLOCKS[0]))
    assert not any(p.requires_grad for p in block.parameters())
    made.drop(BLOCKS[1])
    assert not any(real(BLOCKS[1]))
    others = [p for n, p in made.network.named_parameters() if not n.startswith("model.layers.")]
    assert len(others) == 2  # the embedding, which is the head too, and the last norm
    assert not any(p.is_meta for p in others)


def test_a_loaded_block_is_a_copy(tiny_llama: Path) -> None:
    source = open_source(str(tiny_llama))
    made = StagedModel(source, WINDOWS)
    block = made.load(BLOCKS[0])
    with torch.no_grad():
        block.mlp.up_proj.weight += 1
    fresh = made.load(BLOCKS[0]).mlp.up_proj.weight
    assert torch.equal(fresh, source.tensor(f"{BLOCKS[0]}.mlp.up_proj.weight").float())


def test_layer_that_is_never_called_is_named(tiny_llama: Path) -> None:
    made = staged(tiny_llama)
    block = made.load(BLOCKS[0])
    block.mlp.forward = lambda hidden: hidden
    with pytest.raises(LiftError, match=r"layer .*0.mlp.up_proj is not used on the calibration"):
        made.layer_inputs(BLOCKS[0], block, f"{BLOCKS[0]}.mlp.up_proj", made.inputs[0])


def test_blocks_called_in_an_unknown_way_are_refused(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.llama.modeling_llama import LlamaModel

    def forward(self: nn.Module, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        return self.layers[0](self.embed_tokens(input_ids), None)

    monkeypatch.setattr(LlamaModel, "forward", forward)
    message = "block model.layers.0 takes more .* by position; .* quantise with --calib none"
    with pytest.raises(LiftError, match=message):
        staged(tiny_llama)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("model.layers.7.mlp.up_proj", "model.layers.7"),
        ("h.11.attn.2.q", "h.11"),
        ("3.q", "3"),
        ("model.layers.12", ""),
        ("lm_head", ""),
        ("model.v2.norm", ""),
    ],
)  # fmt: skip
def test_block_is_the_name_up_to_its_first_number(name: str, block: str) -> None:
    assert block_of(name) == block


def test_blocks_keep_their_order() -> None:
    names = ["a.1.q", "a.0.q", "b.0.q", "a.1.k"]
    assert blocks_of(names) == {"a.1": ["a.1.q", "a.1.k"], "a.0": ["a.0.q"], "b.0": ["b.0.q"]}
