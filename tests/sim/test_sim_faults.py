"""Flipped bits change what the code says, or are detected; and the test of that can fail."""

from dataclasses import replace

import numpy as np
import pytest

from algo.code import LiftCode
from hw.geometry import Geometry
from hw.netlist import map_verilog
from hw.prove import decoder_verilog
from sim import faults
from sim.fault_effects import flip_effect
from sim.faults import data_registers, try_faults
from tests.cases import random_code

CASES = {
    "sliding": Geometry(random_code(2, 1, 6), 20),
    "parities": Geometry(random_code(2, 1, 6, parities=3), 20),
    "block": Geometry(random_code(16, 8), 5),
    "two lanes, one spare": Geometry(random_code(5, 2, 4), 11, 2),
}
COUNT = 90


def netlist_of(geometry):
    return map_verilog(decoder_verilog(geometry))


@pytest.fixture(scope="module", params=CASES, ids=str)
def tried(request):
    geometry = CASES[request.param]
    return geometry, try_faults(geometry, netlist_of(geometry), COUNT, seed=1)


def test_every_bound_is_kept_and_a_reset_helps(tried):
    _, result = tried
    assert [f for f in result.faults if not (f.kept and f.recovered)] == []
    counts = result.counts()
    assert [sum(counts[kind].values()) for kind in counts] == [COUNT // 3] * 3
    assert counts["stream"].keys() <= {"bounded", "none"}
    assert counts["data"].keys() <= {"bounded", "none", "protocol"}
    assert counts["control"].keys() & {"hang", "spread", "protocol"}


def test_a_stream_bit_changes_exactly_the_weights_that_hold_it(tried):
    geometry, result = tried
    # a tap of 0 leaves a weight alone; everywhere else the number is the window's
    for fault in result.faults:
        if fault.kind != "stream":
            continue
        _, at, _, _, stream = fault.where.split()
        bits = faults.sent_bits(geometry, 1, 6)[int(stream)]
        effect = flip_effect(geometry.code, bits, int(at))
        assert fault.changed == np.count_nonzero(effect) <= fault.bound


def test_a_fault_is_found_in_other_taps():
    geometry = CASES["sliding"]
    code = geometry.code
    taps = code.taps.copy()
    taps[0, 3] += 2
    other = LiftCode(2, 1, 6, code.shifts, taps, code.exponent)
    result = try_faults(geometry, netlist_of(replace(geometry, code=other)), 9, seed=0)
    assert not result.passed


@pytest.mark.parametrize("kind", ["stream", "data"])
def test_what_goes_past_its_bound_is_found(monkeypatch, kind):
    geometry = CASES["sliding"]
    if kind == "stream":
        monkeypatch.setattr(
            faults, "flip_effect", lambda code, bits, at: 0 * flip_effect(code, bits, at)
        )
    else:
        nothing = np.zeros((6, 20), np.bool_)
        monkeypatch.setattr(faults, "in_flight", lambda *given: nothing)
    result = try_faults(geometry, netlist_of(geometry), 30, seed=1)
    broken = [fault.kind for fault in result.faults if not fault.kept]
    assert set(broken) == {kind}


def test_a_reset_that_leaves_something_is_found():
    geometry = CASES["sliding"]
    verilog = decoder_verilog(geometry)
    old = "34'h000000000;\n    end\n  end"
    assert verilog.count(old) == 1
    netlist = map_verilog(verilog.replace(old, "held;\n    end\n  end"))
    result = try_faults(geometry, netlist, 60, seed=1)
    assert any(not fault.recovered for fault in result.faults)
    assert not result.passed


def test_data_are_what_payloads_reach():
    netlist = netlist_of(CASES["sliding"])
    data = {netlist.name_of(q).partition("[")[0] for q in data_registers(netlist)}
    control = {
        netlist.name_of(q).partition("[")[0]
        for q in netlist.registers.keys() - data_registers(netlist)
    }
    assert {"gearbox.held", "window.queue"} <= data
    assert {"gearbox.fill", "window.left", "window.level"} <= control
    assert not data & control


def test_a_seed_repeats_faults():
    geometry = CASES["block"]
    netlist = netlist_of(geometry)
    one, same, other = (try_faults(geometry, netlist, 12, seed) for seed in (5, 5, 6))
    assert one == same != other
