import hashlib
import json

import pytest

import hw.costs
from algo.errors import LiftError
from algo.shipped import ShippedCode, shipped_codes
from hw.architecture import parse_architecture
from hw.cost_designs import decoder_design, peer_design, projection_design
from hw.cost_report import report, row
from hw.costs import Cache, measure, versions
from hw.geometry import Geometry
from hw.mapped_check import Check
from hw.place import Placement
from hw.synthesis import Area, Gates
from tests.cases import random_code
from tests.hw.streams import SQUARE, TABLE, TINY

TABLES = parse_architecture("tables:4")


def shipped(name="LQ-2/1+6"):
    return shipped_codes()[name]


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


AREA = Area(lut=5, carry=2, lut_ram=0, ff=7, bram=0, dsp=0)


@pytest.fixture
def calls(monkeypatch):
    """The names of the tools' steps, in the order in which they run; none of them is run."""
    found = []

    def stand_in(name, result):
        def call(*arguments):
            found.append(name)
            return result(*arguments)

        monkeypatch.setattr(hw.costs, name, call)

    stand_in("map_to_ecp5", lambda *_: AREA)
    stand_in("check_mapped", lambda text, top, folder, cycles: Check(128, cycles, 99))
    stand_in("frame", lambda *_: 3)
    stand_in("place", lambda folder, seed, luts: Placement(seed, 300.0 + seed, 5, ("a", "b")))
    stand_in("count_gates", lambda *_: Gates(9, 0, 7))
    return found


def test_what_is_known_is_not_measured_again(cache, calls):
    design = peer_design(TINY, 2)
    first = measure(design, 1, cache)
    assert calls == ["map_to_ecp5", "check_mapped", "frame", "place", "count_gates"]
    calls.clear()
    assert measure(design, 1, cache) == first
    assert calls == []
    more = measure(design, 2, cache)
    assert calls == ["map_to_ecp5", "frame", "place"]
    assert more.mapped.placements[0] == first.mapped.placements[0]
    calls.clear()
    other = measure(peer_design(TINY, 3), 0, cache)
    assert calls == ["map_to_ecp5", "check_mapped", "count_gates"]
    assert (other.mapped.mhz, other.mapped.note) == (None, "not placed")


def test_other_tools_and_damaged_files_are_measured_again(cache, calls, tmp_path, monkeypatch):
    design = peer_design(TINY, 1)
    first = measure(design, 0, cache)
    calls.clear()
    for path in (tmp_path / "cache").iterdir():
        if json.loads(path.read_text())["key"]["step"] == "area":
            path.write_text("{")
    assert measure(design, 0, cache) == first
    assert calls == ["map_to_ecp5"]
    calls.clear()
    monkeypatch.setattr("hw.costs.versions", lambda: {**versions(), "yosys": "another"})
    assert measure(design, 0, cache) == first
    assert calls == ["map_to_ecp5", "check_mapped", "count_gates"]


def test_a_multiplier_is_priced_in_luts(cache):
    cost = measure(peer_design(SQUARE, 1), 0, cache)
    assert (cost.mapped.area.dsp, cost.without_dsp.area.dsp) == (1, 0)
    assert cost.mapped.check is None
    assert cost.without_dsp.check.beats > 0
    found = row(cost)
    assert found["lut"] < 9 < found["without_dsp"]["lut"] == found["lut_price"]
    assert found["lut_per_weight_per_cycle"] == found["lut_price"]


def test_block_ram_has_neither_gates_nor_a_check(cache):
    cost = measure(peer_design(TABLE, 1), 0, cache)
    assert cost.mapped.area.bram == 1
    assert (cost.gates, cost.mapped.check) == (None, None)
    found = row(cost)
    assert [found[k] for k in ("mse", "lut_price", "lut_per_weight_per_cycle")] == [None] * 3


def test_what_does_not_fit_is_not_placed(cache, calls, monkeypatch):
    monkeypatch.setattr("hw.costs.map_to_ecp5", lambda *_: Area(9, 0, 0, 9, 256, 0))
    mapped = measure(peer_design(TABLE, 1), 3, cache).mapped
    assert mapped.placements == ()
    assert mapped.note == "does not fit: 256 bram, the device has 108"
    assert calls == []


def test_an_error_says_which_design(cache, calls, monkeypatch):
    def broken(*_):
        raise LiftError("the mapped netlist differs")

    monkeypatch.setattr("hw.costs.check_mapped", broken)
    with pytest.raises(LiftError, match=r"TINY projection, lanes 1: the mapped netlist differs"):
        measure(peer_design(TINY, 1), 0, cache)


def test_a_row_is_what_was_measured(cache):
    design = projection_design(shipped(), "LQ-2/1+6", 2, TABLES)
    cost = measure(design, 3, cache)
    found = report([cost], 3)["designs"][0]
    clocks = sorted(p.mhz for p in cost.mapped.placements)
    assert [p["seed"] for p in found["placements"]] == [1, 2, 3]
    assert [found[k] for k in ("mhz_min", "mhz", "mhz_max")] == clocks
    assert found["verilog_sha256"] == hashlib.sha256(design.verilog.encode()).hexdigest()
    area = cost.mapped.area
    assert (found["lut"], found["ff"], found["lut_price"]) == (area.lut, area.ff, area.lut)
    assert (found["weights_per_cycle"], found["lanes"]) == (2, 2)
    assert found["lut_per_weight_per_cycle"] == area.lut / 2
    assert found["weights_per_second_per_lut"] == pytest.approx(clocks[1] * 2e6 / area.lut)
    assert (found["mse"], found["gap_db"]) == (shipped().mse, pytest.approx(shipped().gap))
    assert json.loads(json.dumps(found, allow_nan=False)) == json.loads(json.dumps(found))


@pytest.mark.parametrize("text", ["tables:4", "tables:3,flow=credit", "tree", "shared:3"])
def test_figures_that_are_not_measured_are_the_designs(text):
    code = random_code(5, 2, 4, seed=3)
    fake = ShippedCode(code, {"mse": {"value": 0.1, "standard_error": 0.001}})
    architecture = parse_architecture(text)
    part = projection_design(fake, "mine", 2, architecture)
    whole = decoder_design(fake, "mine", 2, architecture, 40)
    geometry = Geometry(code, 20, 2, architecture)
    assert (part.weights, part.cycles) == (4, architecture.cycles)
    assert (whole.latency, whole.per_cycle) == (geometry.latency, 4 / architecture.cycles)
    assert whole.latency > part.latency
    assert whole.label == f"mine decoder {text}, lanes 2"
    assert whole.check_cycles > geometry.cycles(1)
    for design in (part, whole):
        assert "module decoder(" in design.verilog
