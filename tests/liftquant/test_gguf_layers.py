from pathlib import Path

import pytest
import torch

from algo.errors import LiftError
from algo.source import open_source
from liftquant.gguf_layers import gguf_names, read_layers, write_layers


@pytest.mark.parametrize("pad", [False, True])
def test_layers_come_back_as_written(tiny_llama: Path, tmp_path: Path, pad: bool) -> None:
    source = open_source(str(tiny_llama))
    write_layers(tmp_path / "layers.gguf", tiny_llama, source.linears, pad)
    weights = dict(source.linear_weights())
    columns = {name: weight.shape[1] for name, weight in weights.items()}
    made = read_layers(tmp_path / "layers.gguf", gguf_names(source.linears, 2), columns)
    assert made.types == {"F32": 14}
    assert all(torch.equal(made.weights[name], weight) for name, weight in weights.items())
    # padding is not counted
    assert made.stored_bytes == sum(weight.nbytes for weight in weights.values())


def test_names_are_those_of_llama_cpp() -> None:
    names = gguf_names(["model.layers.1.self_attn.o_proj", "model.layers.0.mlp.down_proj"], 2)
    assert list(names.values()) == ["blk.1.attn_output.weight", "blk.0.ffn_down.weight"]


def test_layers_of_another_architecture_are_refused() -> None:
    with pytest.raises(LiftError, match=r"layer h\.0\.odd has no name in a Llama GGUF"):
        gguf_names(["h.0.odd"], 1)
