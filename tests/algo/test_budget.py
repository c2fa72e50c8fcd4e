"""The parts of the memory at run time, each against figures worked out by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from algo.budget import DEFAULT_RESERVE, Budget, Memory, run_memory
from algo.errors import LiftError
from algo.footprint import Layout
from algo.kv_cache import LayerCache
from algo.shapes import ModelShapes, read_shapes
from tests.conftest import CODES, write_tiny_llama

BUDGET = Budget(total_bytes=10**9, context=100)


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> ModelShapes:
    """48 wide, 80 inside, vocabulary 96, 2 of 4 heads of 12; everything carried is in bfloat16."""
    folder = tmp_path_factory.mktemp("untied")
    write_tiny_llama(folder, tie_word_embeddings=False, dtype=torch.bfloat16)
    return read_shapes(str(folder))


def memory(
    shapes: ModelShapes, name: str = "LQ-12/5+9", axis: Any = "out", **changes: Any
) -> Memory:
    codes = dict.fromkeys(shapes.linears, CODES[name])
    return run_memory(shapes, codes, Layout(axis), replace(BUDGET, **changes))


def test_every_part_of_a_small_model(untied: ModelShapes) -> None:
    got = memory(untied)
    # streams run along the outputs: 48 rows are 10 groups of 12 bits, 4 words; 24 rows 2 words;
    # 80 rows 6 words
    attention = 48 * 4 + 2 * 48 * 2 + 48 * 4
    mlp = 2 * 48 * 6 + 80 * 4
    assert got == Memory(
        words=2 * 4 * (attention + mlp),
        scales=2 * 2 * (48 + 24 + 24 + 48 + 80 + 80 + 48),
        transforms=4 * (6 * 6 + 8 * 8 + 8 * 8 + 10 * 10) + 2 * 2 * (3 * 48 + 80),
        embedding=96 * 48 * 2,
        head=96 * 48 * 2,
        other=2 * 5 * 48,  # two norms in each block and the last
        kv_cache=2 * 2 * 2 * 12 * 100 * 2,
        # gate and up read 48 and write 160; the longest stream of bits is that of 80 weights
        activations=100 * (2 * (2 * 48 + 2 * 48 + 160) + 4 * 16 * 12),
        logits=4 * 96,
        reserve=DEFAULT_RESERVE,
    )
    assert got.total == sum(
        (got.words, got.scales, got.transforms, got.embedding, got.head, got.other, got.kv_cache,
         got.activations, got.logits, got.reserve)
    )  # fmt: skip


def test_streams_along_the_inputs(untied: ModelShapes) -> None:
    got = memory(untied, axis="in")
    # 48 inputs are 4 words, 80 inputs 6
    assert got.words == 2 * 4 * (4 * (48 + 24 + 24 + 48 + 80 + 80) + 6 * 48)
    assert got.activations == 100 * (2 * (2 * 48 + 2 * 48 + 160) + 4 * 16 * 12)


@pytest.mark.parametrize(("axis", "stream"), [("out", 16), ("in", 10)])
def test_sums_are_as_many_as_a_stream_has_bits(untied: ModelShapes, axis: str, stream: int) -> None:
    up = replace(untied, linears={"model.layers.0.mlp.up_proj": (80, 48)})
    expected = 100 * (2 * (2 * 48 + 2 * 48 + 80) + 4 * stream * 12)
    assert memory(up, axis=axis).activations == expected


@pytest.mark.parametrize(
    ("bits", "row"), [(32, 4 * 48), (16, 2 * 48), (8, 48 + 2), (5, 30 + 2), (3, 18 + 2)]
)
def test_bits_of_head_and_embedding(untied: ModelShapes, bits: int, row: int) -> None:
    head, embedding = memory(untied, head_bits=bits), memory(untied, embedding_bits=bits)
    assert (head.head, head.embedding) == (96 * row, 96 * 48 * 2)
    assert (embedding.head, embedding.embedding) == (96 * 48 * 2, 96 * row)


def test_embedding_on_the_host_takes_nothing(untied: ModelShapes) -> None:
    assert memory(untied, embedding="host") == replace(memory(untied), embedding=0)


def test_tied_embedding_is_counted_once(tiny_llama: Path) -> None:
    tied = read_shapes(str(tiny_llama))
    for place in ("gpu", "host"):
        got = memory(tied, head_bits=8, embedding=place)
        assert (got.embedding, got.head, got.other) == (0, 96 * (48 + 2), 4 * 5 * 48)


def test_kv_cache_grows_with_what_it_holds(untied: ModelShapes) -> None:
    one = memory(untied).kv_cache
    assert memory(untied, batch=3).kv_cache == 3 * one
    assert memory(untied, context=700).kv_cache == 7 * one
    assert memory(untied, kv_bits=8).kv_cache == one // 2
    assert memory(untied, kv_bits=4).kv_cache == one // 4
    windowed = replace(untied, caches=(LayerCache(48, 30), LayerCache(48, None)))
    assert memory(windowed).kv_cache == 2 * 48 * (30 + 100)


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({"context": 100}, 100), ({"context": 1000}, 512), ({"context": 1000, "chunk": 64}, 64),
        ({"context": 10, "batch": 7}, 70), ({"context": 9, "batch": 900, "chunk": 64}, 900),
    ],
)  # fmt: skip
def test_activations_are_of_one_step(
    untied: ModelShapes, changes: dict[str, int], tokens: int
) -> None:
    assert memory(untied, **changes).activations * 100 == memory(untied).activations * tokens


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": 0}, "context must be at least 1, not 0"),
        ({"total_bytes": 0}, "total_bytes must be at least 1, not 0"),
        ({"batch": -1}, "batch must be at least 1, not -1"),
        ({"chunk": 0}, "chunk must be at least 1, not 0"),
        ({"kv_bits": 1}, "kv_bits must be from 2 to 32, not 1"),
        ({"head_bits": 33}, "head_bits must be from 2 to 32, not 33"),
        ({"embedding_bits": 0}, "embedding_bits must be from 2 to 32, not 0"),
        ({"embedding": "disk"}, "embedding 'disk' is none of gpu, host"),
        ({"reserve_bytes": -1}, "reserve_bytes must not be negative, not -1"),
    ],
)
def test_budget_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LiftError, match=message):
        replace(BUDGET, **changes)
