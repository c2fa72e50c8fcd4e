"""Instructions of the one-bit product per stored bit, from the compile report and nowhere else."""

import re
from collections.abc import Sequence
from pathlib import Path

from algo.errors import LiftError
from gpu.decoding_work import ProductCost
from gpu.report import read_report

# of a checkout; an installed package has none, so it has to be given
REPORT = Path(__file__).parent.parent / "benchmarks" / "kernels.json"
_FUSED, _ALONE = "fused-", "bitmm-"
# the last number of a kernel's name is its columns: bitmm-16, fused-out-a15-16
_COLUMNS = re.compile(r".*-(\d+)")


def read_product_costs(report: Path, fused: bool) -> dict[str, tuple[ProductCost, ...]]:
    """For every target of a compile report the product's tiles, fewest columns first.

    Args:
        report: what ``liftquant kernels build --write`` wrote.
        fused: of the kernels with the projection inside; where the report has none for a target,
            of the product alone, whose steady loop is the same.

    Raises:
        LiftError: the file is missing or no report, or holds no figure of the product.
    """
    found: dict[tuple[str, str], dict[int, float]] = {}
    for kernel in read_report(report)["kernels"]:
        name, per_bit = kernel["kernel"], kernel["per_unit"]
        prefix = next((p for p in (_FUSED, _ALONE) if name.startswith(p)), None)
        match = _COLUMNS.fullmatch(name)
        if prefix is None or match is None or kernel["unit"] != "bit" or per_bit is None:
            continue
        tiles = found.setdefault((prefix, kernel["target"]), {})
        # one loop in several forms of digits: the costliest stands for all
        tiles[int(match[1])] = max(per_bit, tiles.get(int(match[1]), 0.0))
    targets = {target for _, target in found}
    if not targets:
        raise LiftError(f"{report} holds no figure of the one-bit product; write it anew")
    costs = {}
    for target in sorted(targets):
        usual = found.get((_FUSED if fused else _ALONE, target))
        tiles = usual or next(found[p, target] for p in (_ALONE, _FUSED) if (p, target) in found)
        # a tile multiplies each bit with each of its columns once
        costs[target] = tuple(ProductCost(n, tiles[n], float(n)) for n in sorted(tiles))
    return costs


def best_tile(tiles: Sequence[ProductCost], columns: int) -> ProductCost:
    """The tile whose repetitions over `columns` columns cost the fewest instructions."""
    return min(tiles, key=lambda tile: -(-columns // tile.columns) * tile.lanes_per_bit)
