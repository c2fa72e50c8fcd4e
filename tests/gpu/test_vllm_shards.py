"""Which rows a rank holds: together the ranks hold every row once, in vLLM's order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.errors import LiftError
from gpu.vllm_shards import Logical, Part, joined, members_of, parts_of

PACKED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}


def test_names_of_fused_and_of_single_layers() -> None:
    attention = "model.layers.3.self_attn"
    named = members_of(f"{attention}.qkv_proj", PACKED)
    assert named == [f"{attention}.{leaf}" for leaf in ("q_proj", "k_proj", "v_proj")]
    assert members_of(f"{attention}.o_proj", PACKED) == [f"{attention}.o_proj"]
    assert members_of("lm_head", PACKED) == ["lm_head"]
    assert members_of("qkv_proj", PACKED) == ["q_proj", "k_proj", "v_proj"]


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@st.composite
def layers(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    """Rows of parts, rows of matrices that hold one or more parts each, and ranks."""
    sizes = draw(SIZES)
    cuts = draw(st.sets(st.integers(1, len(sizes)))) | {len(sizes)}
    ends = sorted(cuts)
    stored = [sum(sizes[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    return sizes, stored, draw(st.integers(1, 4))


@given(layers())
def test_ranks_hold_every_row_once(layer: tuple[list[int], list[int], int]) -> None:
    sizes, stored, ranks = layer
    held: list[list[int]] = [[] for _ in sizes]
    for rank in range(ranks):
        parts = parts_of("x", stored, [Logical(size, rank, ranks) for size in sizes])
        for rows, part in zip(held, parts, strict=True):
            before = sum(stored[: part.member])
            rows.extend(range(before + part.start, before + part.stop))
    assert [row for rows in held for row in rows] == list(range(sum(sizes)))


@given(layers())
def test_all_rows_are_whole_matrices(layer: tuple[list[int], list[int], int]) -> None:
    sizes, stored, _ = layer
    whole = joined(parts_of("x", stored, [Logical(size) for size in sizes]))
    assert whole == [Part(member, 0, rows) for member, rows in enumerate(stored)]


def test_ranks_that_share_a_head_hold_the_same_rows() -> None:
    logical = [Logical(8, 1, 4), Logical(4, 0, 2), Logical(4, 0, 2)]
    assert parts_of("x", [8, 4, 4], logical) == [Part(0, 2, 4), Part(1, 0, 2), Part(2, 0, 2)]


def test_rows_that_do_not_follow_stay_apart() -> None:
    parts = [Part(0, 0, 2), Part(0, 4, 6), Part(0, 6, 7), Part(1, 7, 9)]
    assert joined(parts) == [Part(0, 0, 2), Part(0, 4, 7), Part(1, 7, 9)]


@pytest.mark.parametrize("stored", [[8, 4], [8, 4, 4, 4], [8, 9], [16, 1], [4, 4, 4, 4]])
def test_rows_that_do_not_add_up_are_refused(stored: list[int]) -> None:
    with pytest.raises(LiftError, match=r"layer x has outputs \[8, 4, 4\].*another model"):
        parts_of("x", stored, [Logical(8), Logical(4), Logical(4)])
