"""Sizes of the one-bit product's programs: which there are, and which one is taken by default.

A tile of few columns is bound by the bits it reads and by issue slots; of many, by the tensor
cores and by the planes it reads again for every `Tile.rows` rows, which is why it takes more rows.
The defaults are estimates from machine code (`gpu.bitmm`), not from runs: a table of measured
choices goes before them, and every tile gives the same integers.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch

from algo.errors import LiftError

AnyTile = TypeVar("AnyTile", bound=tuple[int, ...])


class Tile(NamedTuple):
    """Rows, columns and bytes of K per step, warps and pipeline stages of one program."""

    rows: int
    columns: int
    inner: int
    warps: int
    stages: int


# Two warps where columns are few: each then masks more rows of bits per plane it loads, and
# sm_90 and sm_100 are not given warp-group products, which wait for each other plane by plane.
SINGLE = Tile(rows=64, columns=8, inner=128, warps=2, stages=3)  # a token or a few
NARROW = Tile(rows=128, columns=16, inner=128, warps=4, stages=2)
WIDE = Tile(rows=64, columns=32, inner=32, warps=4, stages=2)  # more overflows sm_80's registers
GROUP_WIDE = Tile(rows=128, columns=32, inner=128, warps=8, stages=2)

# AMD's matrix instructions have 16 columns or 32; fewer would be emulated
AMD_NARROW = Tile(rows=64, columns=16, inner=128, warps=2, stages=2)
AMD_WIDE = Tile(rows=64, columns=32, inner=64, warps=2, stages=2)

# the first of as many columns is the default
NVIDIA_TILES = (
    SINGLE,
    Tile(rows=32, columns=8, inner=128, warps=2, stages=3),  # few rows
    Tile(rows=128, columns=8, inner=64, warps=4, stages=3),  # many rows; warp groups on sm_90
    NARROW,
    Tile(rows=128, columns=16, inner=64, warps=4, stages=3),  # a shorter K
    Tile(rows=64, columns=16, inner=64, warps=2, stages=3),
    WIDE,
    Tile(rows=32, columns=32, inner=32, warps=2, stages=2),
)
# more for sm_90 and sm_100, whose products of warp groups need fewer registers
GROUP_TILES = (
    GROUP_WIDE,
    Tile(rows=64, columns=32, inner=128, warps=4, stages=2),
)
AMD_TILES = (
    AMD_NARROW,
    Tile(rows=128, columns=16, inner=64, warps=4, stages=2),
    AMD_WIDE,
)

DEFAULTS = (SINGLE, NARROW, WIDE, GROUP_WIDE, AMD_NARROW, AMD_WIDE)  # those of `tile_for`


def tile_name(tile: tuple[int, ...]) -> str:
    """``64x16x64x4x2``: rows, columns, K per step, warps and stages."""
    return "x".join(map(str, tile))


def named_tile(name: str, tiles: Sequence[AnyTile]) -> AnyTile:
    """The one of `tiles` that has that name.

    Raises:
        LiftError: none has; the message lists the names there are.
    """
    names = {tile_name(tile): tile for tile in tiles}
    if name not in names:
        raise LiftError(
            f"there is no tile {name}, only {', '.join(names)}; measure the tuning table again "
            "with `liftquant kernels tune`"
        )
    return names[name]


def tile_for(columns: int, amd: bool = False, groups: bool = False) -> Tile:
    """The default tile for a product with `columns` columns: the narrowest that holds them all.

    Args:
        columns: N.
        amd: the GPU is AMD's, not NVIDIA's.
        groups: it has products of warp groups, as sm_90 and sm_100 have.

    Raises:
        LiftError: there is no column.
    """
    if columns < 1:
        raise LiftError(f"a product of {columns} columns has no tile; it needs at least 1")
    if amd:
        return AMD_NARROW if columns <= AMD_NARROW.columns else AMD_WIDE
    wide = GROUP_WIDE if groups else WIDE
    return next((tile for tile in (SINGLE, NARROW) if columns <= tile.columns), wide)


def default_tile(device: torch.device, columns: int) -> Tile:
    """`tile_for` what `device` is."""
    if device.type != "cuda" or torch.version.hip is not None:
        return tile_for(columns, amd=torch.version.hip is not None)
    # consumer GPUs from 12.0 on have the products of warps only
    groups = (9, 0) <= torch.cuda.get_device_capability(device) < (12, 0)
    return tile_for(columns, groups=groups)
