"""Key-value caches told from configs; transformers' own config classes are the inputs."""

from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from algo.errors import LiftError
from algo.kv_cache import LayerCache, layer_caches


def config(kind: str = "LlamaConfig", **fields: Any) -> Any:
    usual = {"hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 8}
    return getattr(transformers, kind)(**{**usual, **fields})


def keys(rows: int, layers: int = 6) -> dict[str, tuple[int, int]]:
    return {f"model.layers.{i}.self_attn.k_proj": (rows, 64) for i in range(layers)}


def test_grouped_heads_and_head_size() -> None:
    assert (
        layer_caches(config(num_key_value_heads=2), keys(16)) == (LayerCache(2 * 2 * 8, None),) * 6
    )
    wide = config(num_key_value_heads=2, head_dim=16)
    assert layer_caches(wide, keys(32)) == (LayerCache(2 * 2 * 16, None),) * 6
    assert layer_caches(config(num_key_value_heads=8), keys(64))[0].elements == 2 * 64


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**4))
def test_windowed_layer_keeps_its_window(context: int, window: int, elements: int) -> None:
    assert LayerCache(elements, None).count(context) == elements * context
    kept = LayerCache(elements, window).count(context)
    assert kept == (elements * context if context < window else elements * window)


def test_windows_by_layer() -> None:
    every = config("MistralConfig", sliding_window=100, num_key_value_heads=8)
    assert {c.window for c in layer_caches(every, keys(64))} == {100}
    none = config("Qwen2Config", use_sliding_window=False, num_key_value_heads=8)
    assert {c.window for c in layer_caches(none, keys(64))} == {None}
    upper = config(
        "Qwen2Config", use_sliding_window=True, sliding_window=50, max_window_layers=4,
        num_key_value_heads=8,
    )  # fmt: skip
    assert [c.window for c in layer_caches(upper, keys(64))] == [None] * 4 + [50] * 2


def test_key_projections_must_agree_with_the_config() -> None:
    tower = {f"vision.layers.{i}.attn.k_proj": (99, 99) for i in range(3)}
    fitting = config(num_key_value_heads=2)
    assert len(layer_caches(fitting, {**tower, **keys(16)})) == 6
    odd = {**keys(16), "model.layers.3.self_attn.k_proj": (24, 64)}
    with pytest.raises(LiftError, match="means 6 key projections of 16 rows, it has 6 of 16, 24"):
        layer_caches(fitting, odd)
    with pytest.raises(LiftError, match="means 6 key projections of 64 rows, it has 6 of 16"):
        layer_caches(config(num_key_value_heads=8), keys(16))
    with pytest.raises(LiftError, match="means 6 key projections of 16 rows, it has 5 of 16"):
        layer_caches(fitting, keys(16, layers=5))
    with pytest.raises(LiftError, match="no layer is a key projection by its name"):
        layer_caches(fitting, {"model.layers.0.mlp.up_proj": (16, 64)})


def test_fused_projections_must_agree_too() -> None:
    fused = {f"model.layers.{i}.self_attn.qkv_proj": (64 + 2 * 16, 64) for i in range(6)}
    assert layer_caches(config(num_key_value_heads=2), fused)[0].elements == 2 * 16
    with pytest.raises(LiftError, match="6 key projections of 192 rows, it has 6 of 96"):
        layer_caches(config(num_key_value_heads=8), fused)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("DeepseekV3Config", {}, r"it uses latent attention \(kv_lora_rank\)"),
        ("Qwen3NextConfig", {}, "it has layers of type linear_attention"),
        ("LlamaConfig", {"num_hidden_layers": 0}, "config says num_hidden_layers 0"),
    ],
)
def test_caches_that_are_not_understood_are_refused(
    kind: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(LiftError, match=f"KV cache of this model is not understood: {message}"):
        layer_caches(config(kind, **fields), keys(64))
