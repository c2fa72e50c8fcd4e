"""Models of the Llama family by name: their public configs as data, and shapes without a library.

`algo.shapes` asks transformers to build a model and looks at what came out, which is right for any
config and takes seconds. These few are known, so their shapes follow from the config at once; that
both ways agree is tested.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from algo.footprint import TensorShape
from algo.kv_cache import LayerCache
from algo.shapes import ModelShapes


class LlamaConfig(NamedTuple):
    """What a Llama's ``config.json`` says of sizes; the head is not tied to the embedding."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    longest: int


MODELS: dict[str, LlamaConfig] = {
    "llama-3-8b": LlamaConfig(4096, 14336, 32, 32, 8, 128256, 8192),
    "llama-3-70b": LlamaConfig(8192, 28672, 80, 64, 8, 128256, 8192),
    "llama-2-7b": LlamaConfig(4096, 11008, 32, 32, 32, 32000, 4096),
    "llama-2-70b": LlamaConfig(8192, 28672, 80, 64, 8, 32000, 4096),
    "mistral-7b": LlamaConfig(4096, 14336, 32, 32, 8, 32000, 32768),
}


def llama_shapes(config: LlamaConfig, dtype: torch.dtype = torch.bfloat16) -> ModelShapes:
    """Shapes of a Llama, as `algo.shapes.config_shapes` gives them; full attention everywhere."""
    hidden, size = config.hidden, config.hidden // config.heads
    keys = config.kv_heads * size
    per_block: Mapping[str, tuple[int, int]] = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (config.intermediate, hidden),
        "mlp.up_proj": (config.intermediate, hidden),
        "mlp.down_proj": (hidden, config.intermediate),
    }
    norms = ("input_layernorm", "post_attention_layernorm")
    blocks = [f"model.layers.{i}" for i in range(config.layers)]
    table = TensorShape((config.vocabulary, hidden), dtype)
    norm = TensorShape((hidden,), dtype)
    return ModelShapes(
        linears={f"{b}.{name}": shape for b in blocks for name, shape in per_block.items()},
        carried={
            "model.embed_tokens.weight": table,
            **{f"{block}.{name}.weight": norm for block in blocks for name in norms},
            "model.norm.weight": norm,
            "lm_head.weight": table,
        },
        embedding="model.embed_tokens.weight",
        head="lm_head.weight",
        tied={},
        hidden=hidden,
        vocabulary=config.vocabulary,
        caches=(LayerCache(2 * keys, None),) * config.layers,
        longest=config.longest,
        dtypes_from="known by name",
    )
