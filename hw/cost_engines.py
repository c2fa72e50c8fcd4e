"""What is costed beside decoders: engines, and products of 4-bit integers at the same work."""

from dataclasses import replace
from functools import partial

from algo.shipped import ShippedCode
from hw.cost_designs import OURS, Design
from hw.engine import Engine
from hw.engine_accumulate import SignAccumulate
from hw.engine_geometry import EngineGeometry
from hw.engine_int4 import WEIGHT_BITS, Int4Accumulate, int4_latency


def engine_design(shipped: ShippedCode, geometry: EngineGeometry) -> Design:
    """A whole engine. Its weights per cycle are those of its peak, while rows stream."""
    peak = geometry.peak_weights_per_cycle
    cycles = geometry.cycles(1)
    return Design(
        name=shipped.code.name, source=OURS, unit="engine", lanes=geometry.lanes,
        architecture=f"{geometry.rows}x{geometry.columns}"
        + ("" if geometry.output is None else " requantised"),
        rate=shipped.code.rate, weights=peak.numerator, cycles=peak.denominator, latency=cycles,
        check_cycles=2 * cycles, mse=shipped.mse, mse_note="as recorded in the code's file",
        build=partial(
            Engine, geometry.code, geometry.rows, geometry.columns, geometry.lanes,
            geometry.builders, geometry.output,
        ),
    )  # fmt: skip


def product_design(shipped: ShippedCode, geometry: EngineGeometry) -> Design:
    """The one-bit product of an engine alone: tables, adders and the memory of the sums."""
    return replace(
        engine_design(shipped, geometry), unit="one-bit product",
        architecture=f"{geometry.rows}x{geometry.columns}", build=partial(SignAccumulate, geometry),
    )  # fmt: skip


def int4_design(lanes: int, columns: int, adders: bool, symmetric: bool) -> Design:
    """`Int4Accumulate`: dequantise and multiply."""
    latency = int4_latency(lanes, adders, symmetric)
    form = ("symmetric" if symmetric else "zero point") + (", product as adders" * adders)
    return Design(
        name="INT4", source="GPTQ, AWQ", unit="product", architecture=form, lanes=lanes,
        rate=WEIGHT_BITS, weights=lanes, cycles=1, latency=latency,
        check_cycles=4 * latency + 8, mse=None, mse_note="",
        build=partial(Int4Accumulate, lanes, columns, adders, symmetric),
    )  # fmt: skip
