"""Instructions of the one-bit product per stored bit, from the compile report and nowhere else."""

import re
from collections.abc import Mapping
from pathlib import Path

from algo.errors import LiftError
from gpu.decoding_work import ProductCost
from gpu.report import read_report
from gpu.tiles import tile_for

# of a checkout; an installed package has none, so it has to be given
REPORT = Path(__file__).parent.parent / "benchmarks" / "kernels.json"
# bitmm-64x8x128-plain, fused-out-a15-64x8x128x2x3: rows, columns and bytes of K of the tile
_NAME = re.compile(r"(bitmm|fused)-(?:.*-)?((\d+)x(\d+)x\d+)(?:[x-].*)?")

# the targets with products of warp groups, which have wide tiles of their own
_GROUPS = frozenset({"sm_90", "sm_100"})

Costs = Mapping[str, Mapping[str, ProductCost]]  # by target and size of the tile


def read_product_costs(report: Path, fused: bool) -> Costs:
    """For every target of a compile report the product in each tile that it holds.

    Args:
        report: what ``liftquant kernels build --write`` wrote.
        fused: of the kernels with the projection inside; where the report has none of a tile, of
            the product alone, whose loop over K is the same.

    Raises:
        LiftError: the file is missing or no report, or holds no figure of the product.
    """
    found: dict[str, dict[str, dict[str, ProductCost]]] = {"bitmm": {}, "fused": {}}
    for kernel in read_report(report)["kernels"]:
        match = _NAME.fullmatch(kernel["kernel"])
        if match is None or kernel["unit"] != "bit" or kernel["per_unit"] is None:
            continue
        tiles = found[match[1]].setdefault(kernel["target"], {})
        cost = ProductCost(int(match[3]), int(match[4]), kernel["per_unit"])
        # one loop in several forms: the costliest stands for all
        tiles[match[2]] = max(cost, tiles.get(match[2], cost))
    targets = sorted({*found["bitmm"], *found["fused"]})
    if not targets:
        raise LiftError(f"{report} holds no figure of the one-bit product; write it anew")
    usual, other = ("fused", "bitmm") if fused else ("bitmm", "fused")
    return {t: {**found[other].get(t, {}), **found[usual].get(t, {})} for t in targets}


def default_tile(costs: Costs, target: str, columns: int) -> ProductCost:
    """The product in the tile that is launched for `columns` columns where nothing was tuned.

    Raises:
        LiftError: the report has no figure of it for `target`.
    """
    tile = tile_for(columns, groups=target in _GROUPS)
    size = f"{tile.rows}x{tile.columns}x{tile.inner}"
    if size not in costs.get(target, {}):
        raise LiftError(
            f"the compile report has no figure of the one-bit product in tiles of {size} for "
            f"{target}; write one with `liftquant kernels build --arch {target} --write FILE` and "
            "give it as --report"
        )
    return costs[target][size]
