"""Engines and products of 4-bit integers go through the decoders' flow of costs."""

import pytest

from algo.shipped import shipped_codes
from hw.cost_engines import engine_design, int4_design, product_design
from hw.costs import Cache, measure
from hw.engine_geometry import EngineGeometry

SHIPPED = shipped_codes()["LQ-12/5+9"]
GEOMETRY = EngineGeometry(SHIPPED.code, 20, 24, 8)


def test_an_engine_is_costed_by_the_weights_of_its_peak(tmp_path):
    design = engine_design(SHIPPED, GEOMETRY)
    assert design.label == "LQ-12/5+9 engine 20x24, lanes 8"
    assert design.per_cycle == pytest.approx(8 / 2.4)
    assert design.latency == GEOMETRY.cycles(1)
    whole = measure(design, 0, Cache(tmp_path)).mapped.area
    alone = measure(product_design(SHIPPED, GEOMETRY), 0, Cache(tmp_path)).mapped.area
    assert whole.dsp == 0
    assert whole.lut_ram >= 2 * 3  # two tables of sixteen sums of ten bits
    assert alone.lut < whole.lut
    assert alone.lut_ram == 2 * 3


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_product_without_multipliers_runs_as_its_verilog(symmetric, tmp_path):
    cost = measure(int4_design(2, 9, True, symmetric), 0, Cache(tmp_path))
    assert cost.without_dsp is None
    assert cost.mapped.check is not None
    assert cost.mapped.check.beats > 0


def test_a_multiplier_is_priced_without_its_block(tmp_path):
    cost = measure(int4_design(1, 9, False, True), 0, Cache(tmp_path))
    assert cost.mapped.area.dsp == 1
    assert cost.without_dsp is not None
    assert cost.without_dsp.area.lut > cost.mapped.area.lut
