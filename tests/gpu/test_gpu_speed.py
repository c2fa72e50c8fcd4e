"""Predicted speeds, what they are set from and held against, and where instructions come from."""

import json
from pathlib import Path
from typing import Any

import pytest

from algo.errors import LiftError
from gpu.decoding_work import Decoding, ProductCost
from gpu.llama_models import MODELS, llama_shapes
from gpu.product_costs import default_tile, read_product_costs
from gpu.published import published
from gpu.speed import estimate, plain_code
from gpu.speed_checks import (
    ANCHOR,
    SCENARIOS,
    checkable,
    checks,
    estimated_gpus,
    fixed_clocks,
    gpu_named,
    scenario,
)
from gpu.tiles import GROUP_TILES, GROUP_WIDE, NARROW, NVIDIA_TILES, SINGLE, WIDE, Tile

# 1.5 lane-instructions per weight at 2.4 bits; all targets as if they were alike
TILES = {
    f"{t.rows}x{t.columns}x{t.inner}": ProductCost(t.rows, t.columns, 0.625)
    for t in NVIDIA_TILES + GROUP_TILES
}
COSTS = dict.fromkeys(("sm_80", "sm_89", "sm_90", "sm_100"), TILES)
SMALL, LARGE = (llama_shapes(MODELS[name]) for name in ("llama-3-8b", "llama-3-70b"))
HOW = Decoding()


@pytest.mark.parametrize("gpu", estimated_gpus())
@pytest.mark.parametrize("scene", SCENARIOS)
def test_fewer_bits_are_faster(gpu: str, scene: str) -> None:
    rates = [1.5, 2.0, 2.4, 3.0, 4.0]
    speeds = [estimate(SMALL, gpu_named(gpu), b, HOW, COSTS).tokens_per_second for b in rates]
    assert [s[scene] for s in speeds] == sorted((s[scene] for s in speeds), reverse=True)


@pytest.mark.parametrize("gpu", estimated_gpus())
def test_scenarios_are_in_order_and_below_what_the_memory_allows(gpu: str) -> None:
    speed = estimate(LARGE, gpu_named(gpu), 2.4, HOW, COSTS)
    low, middle, high = (speed.tokens_per_second[name] for name in SCENARIOS)
    assert low < middle < high < speed.weights_only


def test_longer_contexts_and_missing_graphs_are_slower() -> None:
    gpu = gpu_named("h100")
    usual = estimate(SMALL, gpu, 2.0, HOW, COSTS).tokens_per_second["expected"]
    long = estimate(SMALL, gpu, 2.0, Decoding(context=8192), COSTS)
    assert long.tokens_per_second["expected"] < usual
    slow = estimate(SMALL, gpu, 2.0, HOW, COSTS, graphs=False)
    assert slow.tokens_per_second["optimistic"] == pytest.approx(1 / (709 * 5e-6))


def test_batches_share_the_weights() -> None:
    gpu = gpu_named("a100")
    one, eight = (estimate(LARGE, gpu, 2.0, Decoding(batch=b), COSTS) for b in (1, 8))
    ratio = eight.tokens_per_second["expected"] / one.tokens_per_second["expected"]
    assert 6 < ratio < 8


def test_70b_fits_24_gib_at_2_bits_only() -> None:
    gpu = gpu_named("rtx-4090")
    fits = {bits: estimate(LARGE, gpu, bits, HOW, COSTS).fits for bits in (2.0, 2.4, 3.0)}
    assert fits == {2.0: True, 2.4: False, 3.0: False}
    assert estimate(LARGE, gpu, 2.4, HOW, COSTS, embedding="host").fits
    assert estimate(LARGE, gpu_named("a100"), 3.0, HOW, COSTS).fits


@pytest.mark.parametrize("bits", [0.5, 4.5, float("nan"), float("inf")])
def test_rates_out_of_range(bits: float) -> None:
    with pytest.raises(LiftError, match="bits per weight are not between 1 and 4"):
        plain_code(bits)


def test_rates_without_a_code() -> None:
    with pytest.raises(LiftError, match=r"no code has 2\.33 bits .* nearest is 7/3 = 2\.33333"):
        plain_code(2.33)
    assert plain_code(7 / 3).rate == 7 / 3


def test_unknown_gpus_and_targets() -> None:
    with pytest.raises(LiftError, match="no estimate for GPU 'gtx'; known are rtx-4090, a100"):
        gpu_named("gtx")
    with pytest.raises(
        LiftError, match="no figure of the one-bit product in tiles of 64x8x128 for sm_90"
    ):
        estimate(SMALL, gpu_named("h100"), 2.0, HOW, {})


def test_one_figure_sets_the_fixed_cost_and_only_that() -> None:
    anchor = next(check for check in checks() if check.figure.id == ANCHOR)
    assert anchor.ratio == pytest.approx(1.0)
    assert 1_000 < fixed_clocks() < 20_000
    factors = [scenario(name).fixed_clocks / fixed_clocks() for name in SCENARIOS]
    assert factors == [1.5, 1.0, 0.5]


def test_every_figure_that_can_be_is_checked() -> None:
    found = checks()
    assert [check.figure for check in found] == [f for f in published() if checkable(f)]
    assert len(found) > 50
    for check in found:
        assert check.ratio == pytest.approx(check.predicted / check.figure.tokens_per_second)


def test_formats_that_rotate_take_launches_for_it() -> None:
    predicted = {check.figure.id: check.predicted for check in checks()}
    assert predicted["qtip-readme-qtip-7b"] < predicted["qtip-readme-aqlm-7b"]  # as many bytes


@pytest.mark.parametrize(
    ("gpu", "methods"), [("rtx-4090", {"fp16", "EXL2", "GPTQ"}), ("a100", {"int8 (torchao)"})]
)
def test_simple_formats_are_predicted_within_a_tenth(gpu: str, methods: set[str]) -> None:
    """What the documentation says of the model's worth, so that a change of it is noticed."""
    ratios = [c.ratio for c in checks() if c.figure.gpu == gpu and c.figure.method in methods]
    assert len(ratios) >= 2
    assert all(0.9 < ratio < 1.1 for ratio in ratios)


def report(tmp_path: Path, kernels: Any) -> Path:
    file = tmp_path / "kernels.json"
    file.write_text(json.dumps({"format": 1, "versions": {}, "kernels": kernels}))
    return file


def kernel(name: Any, per_unit: Any, **others: Any) -> dict[str, Any]:
    return {
        "kernel": name, "code": "any", "target": "sm_90", "registers": 1, "spills": 0,
        "loop": True, "unit": "bit", "per_unit": per_unit, **others,
    }  # fmt: skip


def test_costs_come_from_the_report(tmp_path: Path) -> None:
    file = report(
        tmp_path,
        [
            kernel("bitmm-64x8x128-plain", 0.5), kernel("bitmm-64x8x128-plain-split", 0.55),
            kernel("bitmm-64x32x32-plain", 0.8), kernel("bitmm-64x8x128-amd", 0.7, target="a"),
            kernel("fused-out-a15-64x8x128x2x3", 0.6), kernel("fused-in-64x8x128x2x3", 0.65),
            kernel("fused-in-64x8x128x2x3-packed", 0.62), kernel("bitmm-sum", 9.0),
            kernel("decode-1x2x3", 9.0), kernel("bitmm-1x2x3", 9.0, unit="weight"),
            kernel("bitmm-4x5x6", None),
        ],
    )  # fmt: skip
    alone, fused = (read_product_costs(file, fused=f) for f in (False, True))
    wide = ProductCost(64, 32, 0.8)
    assert alone["sm_90"] == {"64x8x128": ProductCost(64, 8, 0.55), "64x32x32": wide}
    assert fused["sm_90"] == {"64x8x128": ProductCost(64, 8, 0.65), "64x32x32": wide}
    assert fused["a"] == alone["a"] == {"64x8x128": ProductCost(64, 8, 0.7)}


@pytest.mark.parametrize("target", ["sm_80", "sm_89", "sm_90", "sm_100"])
@pytest.mark.parametrize(
    ("columns", "tile", "of_groups"),
    [
        (1, SINGLE, SINGLE), (8, SINGLE, SINGLE), (9, NARROW, NARROW),
        (17, WIDE, GROUP_WIDE), (512, WIDE, GROUP_WIDE),
    ],
)  # fmt: skip
def test_the_tile_is_the_one_that_is_launched(
    target: str, columns: int, tile: Tile, of_groups: Tile
) -> None:
    launched = of_groups if target in ("sm_90", "sm_100") else tile
    cost = ProductCost(launched.rows, launched.columns, 0.625)
    assert default_tile(COSTS, target, columns) == cost


@pytest.mark.parametrize(
    ("kernels", "message"),
    [
        ({}, "lacks figures of kernels"),
        ([{"kernel": "bitmm-64x8x128"}], "lacks figures of kernels"),
        ([kernel("bitmm-64x8x128", None)], "holds no figure of the one-bit product"),
        ([kernel("bitmm-64x8x128", "1")], "lacks figures of kernels"),
        ([], "holds no figure of the one-bit product"),
        ([kernel("bitmm-16", 1.0)], "holds no figure of the one-bit product"),
    ],
)
def test_damaged_reports(tmp_path: Path, kernels: Any, message: str) -> None:
    with pytest.raises(LiftError, match=message):
        read_product_costs(report(tmp_path, kernels), fused=True)


def test_missing_reports(tmp_path: Path) -> None:
    with pytest.raises(LiftError, match=r"none\.json does not exist"):
        read_product_costs(tmp_path / "none.json", fused=True)
