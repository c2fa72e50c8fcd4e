"""What fits, and that nothing more does."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.budget import Budget, run_memory
from algo.errors import LiftError
from algo.footprint import Layout, input_groups
from algo.plan import (
    RATES,
    bits_that_fit,
    plan_model,
    rate_code,
    shipped_rates,
    upgrade_order,
)
from algo.shapes import ModelShapes, read_shapes
from algo.shipped import best_code
from algo.sizes import format_size
from algo.source import load_config, open_source
from tests.conftest import ROOT

GIB = 2**30
MIB = 2**20


@cache
def shapes(name: str) -> ModelShapes:
    return read_shapes(str(ROOT / "tests" / "configs" / f"{name}.json"))


def room(model: ModelShapes, rate: float, budget: Budget) -> int:
    """What is left of a budget at one rate."""
    codes = dict.fromkeys(model.linears, rate_code(rate))
    return budget.total_bytes - run_memory(model, codes, Layout(), budget).total


@pytest.mark.parametrize("rate", RATES)
def test_every_rate_has_a_code(rate: float) -> None:
    code = rate_code(rate)
    assert abs(code.rate - rate) < 1e-12
    if rate in shipped_rates():
        assert code == best_code(rate)
    else:
        assert (code.window, code.taps.any()) == (12, False)


@given(
    total=st.integers(700 * MIB, 1000 * MIB), context=st.integers(1, 9000),
    batch=st.integers(1, 2), kv_bits=st.sampled_from([16, 8, 4]),
)  # fmt: skip
def test_the_highest_rate_is_taken_and_the_rest_filled(
    total: int, context: int, batch: int, kv_bits: int
) -> None:
    model = shapes("smollm2-135m")
    budget = Budget(total, context, batch, kv_bits)
    fitting = [rate for rate in RATES if room(model, rate, budget) >= 0]
    if not fitting:
        with pytest.raises(LiftError, match=r"at 1\.5 bits the model takes"):
            plan_model(model, budget)
        return
    made = plan_model(model, budget)
    rate = max(fitting)
    assert made.uniform.rate == rate
    assert made.uniform.left_bytes == room(model, rate, budget)
    assert made.uniform.left_bytes >= made.allocated.left_bytes >= 0
    assert made.allocated.left_bytes == total - made.allocated.memory.total
    if rate == RATES[-1]:
        assert made.allocated == made.uniform
        return
    higher = RATES[RATES.index(rate) + 1]
    assert rate <= made.allocated.rate < higher
    groups = input_groups(model.linears)
    upgraded = set(made.allocated.groups.get(rate_code(higher).name, ()))
    codes = {
        name: rate_code(higher if leader in upgraded else rate)
        for leader, members in groups.items()
        for name in members
    }
    assert run_memory(model, codes, Layout(), budget) == made.allocated.memory
    for leader in groups.keys() - upgraded:  # no further group fits
        more = {**codes, **dict.fromkeys(groups[leader], rate_code(higher))}
        assert run_memory(model, more, Layout(), budget).total > total


def test_rate_of_a_mixture_is_its_average() -> None:
    model = shapes("llama-2-70b")
    made = plan_model(model, Budget(24 * GIB, 8192)).allocated
    members = input_groups(model.linears)
    rates = {rate_code(rate).name: rate for rate in RATES}
    bits = sum(
        rates[code] * rows * columns
        for code, leaders in made.groups.items()
        for leader in leaders
        for rows, columns in (model.linears[name] for name in members[leader])
    )
    assert len(made.groups) == 2
    assert made.rate == pytest.approx(bits / model.weights)
    assert sorted(g for gs in made.groups.values() for g in gs) == sorted(members)


@pytest.mark.parametrize(
    ("name", "vram", "settings", "rate"),
    [
        ("llama-2-70b", 24 * GIB, {"context": 8192}, 2.4),
        ("llama-2-70b", 24 * 10**9, {"context": 4096}, 2.4),
        ("llama-3-70b", 24 * GIB, {"context": 8192, "embedding": "host", "head_bits": 8}, 2.4),
        ("llama-3-70b", 24 * GIB, {"context": 8192, "embedding": "host", "kv_bits": 8}, 2.5),
        ("qwen2.5-32b", 12 * GIB, {"context": 2048, "embedding": "host"}, 2.5),
        ("qwen2.5-32b", 12 * GIB, {"context": 4096, "embedding": "host", "kv_bits": 8}, 2.5),
        (
            "qwen2.5-32b", 12 * 10**9,
            {"context": 2048, "embedding": "host", "head_bits": 8, "kv_bits": 8}, 2.5,
        ),
        ("llama-3-70b", 24 * GIB, {"context": 8192}, 2.0),
        ("qwen2.5-32b", 12 * GIB, {"context": 8192}, 1.7),
    ],
)  # fmt: skip
def test_the_papers_two_cases(name: str, vram: int, settings: dict[str, Any], rate: float) -> None:
    """They come out under these settings, and not with everything in 16 bits on the GPU."""
    made = plan_model(shapes(name), Budget(vram, **settings))
    assert made.uniform.rate == rate


def test_what_is_too_large_is_told_with_its_remedies() -> None:
    model, budget = shapes("qwen2.5-32b"), Budget(8 * GIB, 8192, batch=2)
    needed = 8 * GIB - room(model, 1.5, budget)
    with pytest.raises(LiftError) as raised:
        plan_model(model, budget)
    assert f"takes {needed / GIB:.2f} GiB, {needed / GIB - 8:.2f} GiB more than" in str(
        raised.value
    )
    assert "--kv-bits 8 saves 2.00 GiB" in str(raised.value)
    assert "--embedding host saves 1.45 GiB" in str(raised.value)
    assert "half the context saves 2.00 GiB, --batch 1 saves 2.00 GiB" in str(raised.value)
    lean = Budget(8 * GIB, 1, kv_bits=4, head_bits=8, embedding_bits=8, embedding="host")
    assert plan_model(model, lean).host_bytes == 152064 * (5120 + 2)
    with pytest.raises(LiftError, match=r"there are$"):  # nothing is left to advise
        plan_model(model, replace(lean, total_bytes=GIB))


def test_rate_that_was_asked_for() -> None:
    model = shapes("llama-2-70b")
    made = plan_model(model, Budget(24 * GIB, 8192), bits=2.0)
    assert made.uniform.rate == 2.0
    with pytest.raises(LiftError, match=r"at 2\.6 bits the model takes .* more than"):
        plan_model(model, Budget(24 * GIB, 8192), bits=2.6)
    with pytest.raises(LiftError, match=r"2\.45 bits per weight is not one of 1\.5, \.\.\., 4"):
        plan_model(model, Budget(24 * GIB, 8192), bits=2.45)


def test_outer_blocks_and_down_projections_come_first() -> None:
    leaders = [group[0] for group in upgrade_order(shapes("smollm2-135m").linears)]
    parts = [(int(name.split(".")[2]), name.rpartition(".")[2]) for name in leaders]
    assert len(set(leaders)) == 120
    assert {block for block, _ in parts[:8]} == {0, 29}
    assert [part for _, part in parts[:2]] == ["down_proj"] * 2
    assert [part for _, part in parts[8:36]] == ["down_proj"] * 28
    assert [block for block, _ in parts[8:12]] == [1, 28, 2, 27]
    assert parts[36:39] == [(1, "q_proj"), (1, "o_proj"), (1, "gate_proj")]


def test_bits_for_quantize(tiny_llama: Path) -> None:
    source, config = open_source(str(tiny_llama)), load_config(tiny_llama)
    known = read_shapes(str(tiny_llama))
    needed = {rate: -room(known, rate, Budget(1, 64)) + 1 for rate in shipped_rates()}
    for rate, size in needed.items():
        for model in (source, config, known):
            assert bits_that_fit(model, Budget(size, 64)) >= rate
    with pytest.raises(LiftError, match="more than"):
        bits_that_fit(source, Budget(min(needed.values()) - 1, 64))
    top = shipped_rates()[-1]
    assert bits_that_fit(config, Budget(GIB, 64)) == top
    assert bits_that_fit(config, Budget(needed[top] - 1, 64)) < top


def test_assumptions_name_what_the_figures_depend_on(tiny_llama: Path) -> None:
    tied = plan_model(read_shapes(str(tiny_llama)), Budget(GIB, 65)).assumptions
    text = " ".join(tied)
    assert "The head is the embedding (tied)" in text
    assert "made for 64 tokens; the context is longer" in text
    assert "a reserve of 614.40 MiB" in text
    assert "is float32 (read from the files' headers)" in text
    lean = Budget(24 * GIB, 100, kv_bits=8, head_bits=8, embedding="host")
    text = " ".join(plan_model(shapes("llama-2-70b"), lean).assumptions)
    assert "scales of a quantised cache not counted" in text
    assert "Head in 8 bits on the GPU, embedding in 16 bits in the host's memory" in text
    assert "the runtime has to convert them" in text
    assert "the context is longer" not in text


def test_unquantised_experts_are_told(tmp_path: Path) -> None:
    fields = {
        "model_type": "qwen3_moe", "hidden_size": 32, "moe_intermediate_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "num_experts": 4, "vocab_size": 64, "dtype": "bfloat16",
    }  # fmt: skip
    (tmp_path / "moe.json").write_text(json.dumps(fields))
    made = plan_model(read_shapes(str(tmp_path / "moe.json")), Budget(GIB, 64))
    experts = 2 * 4 * (32 * 32 + 32 * 16) * 2
    assert made.uniform.memory.other > experts
    told = f"4 tensors of three or more dimensions (fused experts, say) hold {format_size(experts)}"
    assert any(told in line for line in made.assumptions)
