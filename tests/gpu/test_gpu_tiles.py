"""Which tile and how many splits are taken by default."""

import pytest
import torch

from algo.errors import LiftError
from gpu.tiles import (
    AMD_NARROW,
    AMD_WIDE,
    GROUP_WIDE,
    NARROW,
    SINGLE,
    WIDE,
    default_tile,
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
