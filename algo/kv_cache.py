"""The key-value cache of a model, from its config.

Every decoder layer keeps a key and a value per key-value head for each token it may look back to:
all of them, or a window. Attention that keeps anything else is refused by name, since a wrong
figure would be worse than none.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from algo.errors import LiftError

_KEY = re.compile(r"(.*?)\d+\..*\bk_proj")
_FUSED = re.compile(r"(.*?)\d+\..*\b(?:qkv_proj|query_key_value|Wqkv|qkv)")
_WINDOWED = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
_NOT_UNDERSTOOD = (
    "the KV cache of this model is not understood: {}; of attention, full and sliding-window "
    "layers with one number of key-value heads are"
)


@dataclass(frozen=True)
class LayerCache:
    """One layer's cache: `elements` numbers per token, of the last `window` tokens or of all."""

    elements: int
    window: int | None

    def count(self, context: int) -> int:
        """Numbers kept for one sequence of `context` tokens."""
        return self.elements * (context if self.window is None else min(context, self.window))


def _positive(config: Any, field: str) -> int:
    value = getattr(config, field, None)
    if type(value) is not int or value < 1:
        raise LiftError(_NOT_UNDERSTOOD.format(f"config says {field} {value!r}"))
    return value


def layer_caches(config: Any, linears: Mapping[str, tuple[int, int]]) -> tuple[LayerCache, ...]:
    """The cache of every decoder layer.

    Args:
        config: transformers config of the decoder.
        linears: ``(rows, columns)`` of the block linears, whose key projections must agree.

    Raises:
        LiftError: latent attention, a recurrent layer, heads that differ between layers, or key
            projections that are not as the config means them.
    """
    if getattr(config, "kv_lora_rank", None):
        raise LiftError(_NOT_UNDERSTOOD.format("it uses latent attention (kv_lora_rank)"))
    layers = _positive(config, "num_hidden_layers")
    heads = _positive(config, "num_attention_heads")
    if getattr(config, "num_key_value_heads", None) is not None:
        kv_heads = _positive(config, "num_key_value_heads")
    else:
        kv_heads = heads
    if getattr(config, "head_dim", None) is not None:
        size = _positive(config, "head_dim")
    else:
        size = _positive(config, "hidden_size") // heads
    windows = _windows(config, layers)
    _check_keys(linears, layers, kv_heads * size, (heads + 2 * kv_heads) * size)
    return tuple(LayerCache(2 * kv_heads * size, window) for window in windows)


def _windows(config: Any, layers: int) -> list[int | None]:
    """How many tokens each layer looks back; None for all."""
    types = getattr(config, "layer_types", None)
    if types is None:
        window = getattr(config, "sliding_window", None)
        return [None if window is None else _positive(config, "sliding_window")] * layers
    if len(types) != layers:
        raise LiftError(_NOT_UNDERSTOOD.format(f"{len(types)} layer_types for {layers} layers"))
    windows: list[int | None] = []
    for kind in types:
        if kind == "full_attention":
            windows.append(None)
        elif kind in _WINDOWED:
            windows.append(_positive(config, _WINDOWED[kind]))
        else:
            raise LiftError(_NOT_UNDERSTOOD.format(f"it has layers of type {kind}"))
    return windows


def _check_keys(linears: Mapping[str, tuple[int, int]], layers: int, keys: int, fused: int) -> None:
    """One stack of blocks must have the key projections, or fused ones, that the config means."""
    stacks: dict[str, list[int]] = {}
    for pattern, expected in ((_KEY, keys), (_FUSED, fused)):
        for name, shape in linears.items():
            match = pattern.fullmatch(name)
            if match:
                stacks.setdefault(match[1], []).append(shape[0])
        if [expected] * layers in stacks.values():
            return
        if stacks:
            found = sorted({size for sizes in stacks.values() for size in sizes})
            raise LiftError(
                _NOT_UNDERSTOOD.format(
                    f"its config means {layers} key projections of {expected} rows, it has "
                    f"{sum(map(len, stacks.values()))} of {', '.join(map(str, found))}"
                )
            )
    raise LiftError(_NOT_UNDERSTOOD.format("no layer is a key projection by its name"))
