import re

import pytest

from algo.errors import LiftError
from hw.export import verilog_text
from hw.harness import Port, harness
from hw.place import Placement, frame, place, read_report, too_large
from hw.synthesis import Area, map_to_ecp5
from tests.hw.streams import subtraction

PORTS = [Port("clk", 1, False), Port("a", 3, False), Port("b", 2, False), Port("y", 6, True)]


def test_every_bit_but_the_clock_is_a_register_of_the_frame():
    text = harness("top", PORTS)
    assert "module harness(input clk, input i, output o);" in text
    assert "top design(.clk(clk), .a(shift[2:0]), .b(shift[4:3]), .y(from_y));" in text
    captured = re.search(r"fold_0 <= \{(.*?)\};", text)
    assert captured
    assert captured[1].split(", ") == [f"from_y[{n}]" for n in (5, 4, 3, 2, 1, 0)]
    assert "fold_1 <= {fold_0[4] ^ fold_0[5], fold_0[0] ^ fold_0[1] ^ fold_0[2] ^ fold_0[3]};" in (
        text
    )
    assert "assign o = fold_2;" in text


def test_a_placed_design_has_its_own_cells_and_a_clock(tmp_path):
    area = map_to_ecp5(verilog_text(subtraction(4), "decoder"), "decoder", tmp_path)
    luts = frame(tmp_path, "decoder")
    assert luts == 4  # ten output bits: XORs of 4, 4 and 2, then of 3
    found = [place(tmp_path, seed, luts) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert [p.seed for p in found] == [1, 1, 2]
    assert all(p.sites >= area.lut and 100 < p.mhz < 1000 for p in found)


def test_the_frame_leaves_the_netlist_as_it_is(tmp_path):
    area = map_to_ecp5(verilog_text(subtraction(2), "decoder"), "decoder", tmp_path)
    frame(tmp_path, "decoder")
    text = (tmp_path / "framed.json").read_text()
    inside = re.findall(r'"design\.[^"]*": \{\s*"hide_name": \d+,\s*"type": "(\w+)"', text)
    assert (inside.count("LUT4"), inside.count("TRELLIS_FF")) == (area.lut, area.ff)


def report(start="shift_3", end="design.sum", clocks=("clk",)):
    path = [{"from": {"cell": start}, "to": {"cell": "x"}}, {"from": {}, "to": {"cell": end}}]
    return {
        "fmax": {clock: {"achieved": 250.5} for clock in clocks},
        "critical_paths": [
            {"from": "<async>", "to": "posedge clk", "path": []},
            {"from": "posedge clk", "to": "posedge clk", "path": path},
        ],
        "utilization": {"TRELLIS_COMB": {"used": 40}},
    }


def test_a_report_is_read():
    assert read_report(report(), 3, 9) == Placement(3, 250.5, 31, ("shift_3", "design.sum"))
    assert not read_report(report(), 3, 9).framed
    assert read_report(report(end="fold_1"), 3, 9).framed


def test_two_clocks_are_refused():
    with pytest.raises(LiftError, match="nextpnr found 2 clocks"):
        read_report(report(clocks=("clk", "other")), 1, 0)


@pytest.mark.parametrize(
    ("area", "reason"),
    [
        (Area(43848, 0, 0, 43848, 108, 72), None),
        (Area(43843, 0, 1, 9, 0, 0), "43,849 sites, the device has 43,848"),
        (Area(9, 0, 0, 9, 256, 0), "256 bram, the device has 108"),
        (Area(9, 0, 0, 9, 0, 73), "73 dsp, the device has 72"),
    ],
)
def test_what_does_not_fit_is_known_beforehand(area, reason):
    assert too_large(area) == reason


def test_nextpnr_is_asked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("hw.place.importlib.util.find_spec", lambda name: None)
    with pytest.raises(LiftError, match=r"nextpnr is missing; pip install 'liftquant\[rtl\]'"):
        place(tmp_path, 1, 0)


def test_what_nextpnr_says_is_quoted(tmp_path):
    (tmp_path / "framed.json").write_text("{}")
    with pytest.raises(LiftError, match="nextpnr stopped with status"):
        place(tmp_path, 1, 0)
