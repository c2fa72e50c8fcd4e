"""Costs as JSON values: one flat row a design, and what they were measured with."""

from dataclasses import asdict
from typing import Any

from hw.costs import Cost, Mapped, versions
from hw.place import DEVICE, OPTIONS


def report(costs: list[Cost], seeds: int) -> dict[str, Any]:
    """All rows, with versions, device and seeds."""
    return {
        "versions": versions(),
        "device": f"LFE5U-{DEVICE[:-1]}F",
        "yosys": "synth_ecp5, and with -nodsp; synth -flatten, abc -g gates",
        "nextpnr": " ".join(OPTIONS),
        "seeds": list(range(1, seeds + 1)),
        "designs": [row(cost) for cost in costs],
    }


def row(cost: Cost) -> dict[str, Any]:
    """One design.

    ``lut_price`` is the LUT sites of the variant without DSP blocks, LUT RAM included; the figures
    per LUT are of that variant. Block RAM has no price in LUT: with any, those are None. ``gap_db``
    is over the bound 2^(-2 rate).
    """
    design, priced = cost.design, cost.in_luts
    price = None if priced.area.bram else priced.area.sites
    speed = None if priced.mhz is None else priced.mhz * design.per_cycle
    return {
        "name": design.name,
        "source": design.source,
        "unit": design.unit,
        "architecture": design.architecture,
        "lanes": design.lanes,
        "rate": design.rate,
        "mse": design.mse,
        "gap_db": design.gap_db,
        "mse_note": design.mse_note,
        "latency": design.latency,
        "weights_per_cycle": design.per_cycle,
        "verilog_sha256": cost.verilog_sha256,
        **_mapped(cost.mapped),
        "without_dsp": None if cost.without_dsp is None else _mapped(cost.without_dsp),
        "gates": None if cost.gates is None else asdict(cost.gates),
        "lut_price": price,
        "lut_per_weight_per_cycle": None if price is None else price / design.per_cycle,
        "weights_per_second": None if speed is None else speed * 1e6,
        "weights_per_second_per_lut": speed * 1e6 / price if speed and price else None,
    }


def _mapped(mapped: Mapped) -> dict[str, Any]:
    clocks = [p.mhz for p in mapped.placements]
    return {
        **asdict(mapped.area),
        "placed_sites": mapped.placements[0].sites if mapped.placements else None,
        "mhz": mapped.mhz,
        "mhz_min": min(clocks, default=None),
        "mhz_max": max(clocks, default=None),
        "placements": [asdict(p) for p in mapped.placements],
        "placement_note": mapped.note,
        "check": None if mapped.check is None else asdict(mapped.check),
    }
