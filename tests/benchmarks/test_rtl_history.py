"""Decoders cost what the last entry of the history says, within a tenth."""

from dataclasses import replace

import pytest

from benchmarks.rtl_history import SEEDS, designs, drifts, last_entry, mapped_area
from hw.costs import Cache, measure
from hw.synthesis import Area

AREA = Area(lut=200, carry=92, lut_ram=0, ff=100, bram=0, dsp=0)
RECORDED = {"lut": 200, "carry": 92, "lut_ram": 0, "ff": 100, "mhz": 300.0}


def test_the_last_entry_has_every_design() -> None:
    entry = last_entry()
    assert set(entry["designs"]) == {design.label for design in designs()}
    assert all(figures["mhz"] > 0 for figures in entry["designs"].values())
    assert set(entry["tools"]) == {"yosys", "nextpnr", "amaranth"}


MEANT = "if that is meant, run python -m benchmarks.rtl_history"


@pytest.mark.parametrize("design", designs(), ids=lambda design: design.label)
def test_no_area_has_drifted(design) -> None:
    found = drifts(last_entry()["designs"][design.label], mapped_area(design))
    assert not found, f"{found}; {MEANT}"


@pytest.mark.parametrize("design", designs()[:3], ids=lambda design: design.label)
def test_no_clock_has_drifted(design, tmp_path) -> None:
    mapped = measure(design, SEEDS, Cache(tmp_path)).mapped
    found = drifts(last_entry()["designs"][design.label], mapped.area, mapped.mhz)
    assert not found, f"{found}; {MEANT}"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"lut": 220, "ff": 90}, []),
        ({"lut": 221}, ["lut: 200 recorded, 221 now"]),
        ({"lut": 179}, ["lut: 200 recorded, 179 now"]),
        ({"ff": 111}, ["ff: 100 recorded, 111 now"]),
        ({"lut": 0, "ff": 0}, ["lut: 200 recorded, 0 now", "ff: 100 recorded, 0 now"]),
        ({"lut_ram": 1}, ["lut_ram: 0 recorded, 1 now"]),
    ],
)
def test_a_drift_over_a_tenth_is_found(changed, expected) -> None:
    assert drifts(RECORDED, replace(AREA, **changed)) == expected


@pytest.mark.parametrize(("mhz", "found"), [(271, 0), (269, 1), (329, 0), (331, 1)])
def test_a_clock_that_drifts_over_a_tenth_is_found(mhz, found) -> None:
    assert len(drifts(RECORDED, AREA, mhz)) == found


def test_a_drifted_design_fails() -> None:
    """The figures of one design do not pass for another's."""
    small, other = designs()[:2]
    assert drifts(last_entry()["designs"][other.label], mapped_area(small))
