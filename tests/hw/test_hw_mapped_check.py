import re

import numpy as np
import pytest

from algo.errors import LiftError
from hw.export import verilog_text
from hw.mapped_check import check_mapped, compare_netlists, read_mapped
from hw.netlist import map_verilog
from hw.netlist_sim import NetlistSimulator
from hw.synthesis import MAPPED, map_to_ecp5
from tests.hw.streams import OneStage

ADDER = """
module top(input clk, input rst, input [3:0] a, output reg [3:0] sum);
  always @(posedge clk) if (rst) sum <= 4'd9; else sum <= sum + a;
endmodule
"""


def test_every_run_has_its_own_inputs_and_state():
    drawn = np.random.default_rng(0)
    simulation = NetlistSimulator(map_verilog(ADDER, "top"), lanes=5, seed=0)
    sums = np.zeros(5, int)
    for cycle in range(30):
        rst, a = drawn.integers(0, 2, 5) if cycle else np.ones(5, int), drawn.integers(0, 16, 5)
        inputs = {"rst": [pack(rst)], "a": [pack(a >> bit & 1) for bit in range(4)]}
        bits = simulation.step(inputs)["sum"]
        if cycle:
            assert [sum((b >> run & 1) << n for n, b in enumerate(bits)) for run in range(5)] == [
                *sums
            ]
        sums = np.where(rst, 9, (sums + a) % 16)


def pack(values):
    return sum(int(value) << run for run, value in enumerate(values))


def mapped(folder, text, top="decoder"):
    map_to_ecp5(text, top, folder)
    return folder / MAPPED


@pytest.fixture
def design():
    """Sums and a bit of logic: carries, LUTs and registers with enables."""
    function = lambda bits: (bits[:6] + bits[6:]) ^ bits[3:9]  # noqa: E731
    return verilog_text(OneStage(12, 7, function), "decoder")


def test_a_mapped_netlist_equals_its_verilog(tmp_path, design):
    mapped(tmp_path, design)
    check = check_mapped(design, "decoder", tmp_path, 20)
    assert (check.runs, check.cycles) == (128, 20)
    assert check.beats > 500


@pytest.mark.parametrize(
    ("cell", "change"),
    [
        (r"(LUT4 #\(\s*\.INIT\(16'h)([0-9a-f]{3})([0-9a-f])", lambda m: m[1] + m[2] + flip(m[3])),
        (r"(CCU2C #\(\s*\.INIT0\(16'h)([0-9a-f]{3})([0-9a-f])", lambda m: m[1] + m[2] + flip(m[3])),
        (r'(\.CEMUX\(")CE("\))', lambda m: f"{m[1]}INV{m[2]}"),
        (r'(\.REGSET\(")RESET("\))', lambda m: f"{m[1]}SET{m[2]}"),
    ],
    ids=["table", "carry", "enable", "reset value"],
)
def test_a_changed_cell_is_found(tmp_path, design, cell, change):
    """One cell after the other, until one of them matters; a check that saw nothing would fail."""
    file = mapped(tmp_path, design)
    text = file.read_text()
    places = list(re.finditer(cell, text))
    assert places
    original = map_verilog(design, "decoder")
    for place in reversed(places):
        file.write_text(text[: place.start()] + change(place) + text[place.end() :])
        if differs(original, read_mapped(tmp_path, "decoder")):
            return
    pytest.fail("no changed cell was found")


def differs(one, two):
    try:
        compare_netlists(one, two, 20, 0)
    except LiftError as error:
        return re.search(r"differs from its Verilog: [io]__\w+\[\d+\], cycle \d+", str(error))
    return None


def flip(digit):
    return f"{int(digit, 16) ^ 15:x}"


def test_other_ports_are_refused(design):
    other = verilog_text(OneStage(11, 7, lambda bits: bits), "decoder")
    with pytest.raises(LiftError, match="has other ports"):
        compare_netlists(map_verilog(design, "decoder"), map_verilog(other, "decoder"), 9, 0)


def test_nothing_compared_is_an_error():
    silent = map_verilog(
        "module top(input clk, input i__valid, output i__ready, input o__ready, output o__valid,"
        " output o__payload); assign i__ready = 1, o__valid = 0, o__payload = 0; endmodule",
        "top",
    )
    with pytest.raises(LiftError, match="no output beat in 9 cycles"):
        compare_netlists(silent, silent, 9, 0)


def test_an_output_that_nothing_drives_is_never_equal():
    floating = map_verilog(
        "module top(input a, output y, output z); assign y = a; endmodule", "top"
    )
    one, two = (NetlistSimulator(floating, 64, seed).step({"a": [5]}) for seed in (0, 1))
    assert one["y"] == two["y"] == [5]
    assert one["z"] != two["z"]


def test_cells_without_a_model_are_refused(tmp_path):
    product = verilog_text(OneStage(12, 12, lambda bits: bits[:6] * bits[6:]), "decoder")
    mapped(tmp_path, product)
    with pytest.raises(LiftError, match=r"MULT18X18D|not an AND"):
        read_mapped(tmp_path, "decoder")
