"""Which tile and how many splits are taken by default."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo.errors import LiftError
from gpu.tiles import (
    AMD_NARROW,
    AMD_TILES,
    AMD_WIDE,
    GROUP_TILES,
    GROUP_WIDE,
    MOST_INNER,
    NARROW,
    NVIDIA_TILES,
    SINGLE,
    WIDE,
    default_tile,
    splits_for,
    tile_for,
)


def test_the_narrowest_tile_that_holds_the_columns():
    assert [tile_for(n) for n in (1, 8, 9, 16, 17, 32, 33, 64)] == [
        *(SINGLE, SINGLE, NARROW, NARROW, WIDE, WIDE, WIDE, WIDE),
    ]
    assert [tile_for(n, groups=True) for n in (8, 16, 17, 64)] == [
        *(SINGLE, NARROW, GROUP_WIDE, GROUP_WIDE),
    ]
    assert [tile_for(n, amd=True) for n in (1, 16, 17, 32, 64)] == [
        *(AMD_NARROW, AMD_NARROW, AMD_WIDE, AMD_WIDE, AMD_WIDE),
    ]


@pytest.mark.parametrize(
    ("capability", "hip", "tile"),
    [
        ((8, 0), None, WIDE),
        ((8, 9), None, WIDE),
        ((9, 0), None, GROUP_WIDE),
        ((10, 0), None, GROUP_WIDE),
        ((12, 0), None, WIDE),
        ((9, 4), "6.3", AMD_WIDE),
    ],
)
def test_the_default_tile_is_for_the_device(monkeypatch, capability, hip, tile):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert default_tile(torch.device("cuda"), 20) == tile
    assert default_tile(torch.device("cuda"), 3) == (AMD_NARROW if hip else SINGLE)


def test_no_columns_have_no_tile():
    with pytest.raises(LiftError, match="a product of 0 columns has no tile; it needs at least 1"):
        tile_for(0)


def test_planes_padded_for_the_longest_step_fit_every_tile():
    for tile in NVIDIA_TILES + GROUP_TILES + AMD_TILES:
        assert MOST_INNER % tile.inner == 0
        assert tile.rows * tile.inner % 16 == 0


@pytest.mark.parametrize(
    ("rows", "row_bytes", "programs", "splits"),
    [
        (64, 512, 1, 1),
        (64, 512, 4, 4),
        (64, 512, 1000, 4),  # no more than the steps of 128 bytes
        (64, 1, 1000, 1),
        (9830, 512, 154, 1),
        (9830, 512, 155, 2),
        (9830, 640, 500, 3),  # 4 were wanted: parts of two steps, 2 + 2 + 1
    ],
)
def test_splits(rows, row_bytes, programs, splits):
    assert splits_for(rows, 1, row_bytes, SINGLE, programs) == splits


@given(
    rows=st.integers(1, 10000),
    columns=st.integers(1, 64),
    row_bytes=st.integers(1, 4000),
    tile=st.sampled_from(NVIDIA_TILES),
    programs=st.integers(1, 2000),
)
def test_no_split_is_empty_or_missing(rows, columns, row_bytes, tile, programs):
    splits = splits_for(rows, columns, row_bytes, tile, programs)
    steps = -(-row_bytes // tile.inner)
    part = -(-steps // splits)
    assert 1 <= splits <= steps
    assert -(-steps // part) == splits
