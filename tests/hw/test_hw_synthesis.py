import pytest

from algo.errors import LiftError
from hw.synthesis import Area, Gates, area_of, count_gates, gates_of, map_to_ecp5

PARITY = "module top(input [3:0] a, output y); assign y = ^a; endmodule"
REGISTERED = """
module top(input clk, input enable, input [7:0] a, input [7:0] b, output reg [7:0] y);
  always @(posedge clk) if (enable) y <= a + b;
endmodule
"""
PRODUCT = """
module top(input clk, input [8:0] a, input [8:0] b, output reg [17:0] y);
  always @(posedge clk) y <= a * b;
endmodule
"""
MEMORY = """
module top(input clk, input write, input [WIDTH-1:0] at, input [WIDTH-1:0] from, input [3:0] d,
           output reg [3:0] y);
  parameter WIDTH = 4;
  reg [3:0] held [0:(1 << WIDTH) - 1];
  always @(posedge clk) begin if (write) held[at] <= d; y <= held[from]; end
endmodule
"""


def test_a_function_of_four_bits_is_one_lut(tmp_path):
    assert map_to_ecp5(PARITY, "top", tmp_path) == Area(1, 0, 0, 0, 0, 0)


def test_carry_is_two_luts_a_cell(tmp_path):
    area = map_to_ecp5(REGISTERED, "top", tmp_path)
    assert (area.carry, area.lut, area.ff, area.dsp) == (8, 8, 8, 0)


def test_a_multiplier_is_a_dsp_block_or_luts(tmp_path):
    with_dsp = map_to_ecp5(PRODUCT, "top", tmp_path)
    without = map_to_ecp5(PRODUCT, "top", tmp_path, dsp=False)
    assert (with_dsp.dsp, without.dsp) == (1, 0)
    assert without.lut > with_dsp.lut + 80


def test_memories_are_lut_ram_or_block_ram(tmp_path):
    small = map_to_ecp5(MEMORY, "top", tmp_path)
    assert (small.lut_ram, small.bram, small.ff) == (1, 0, 4)
    assert small.sites == small.lut + 6
    large = map_to_ecp5(MEMORY.replace("WIDTH = 4", "WIDTH = 12"), "top", tmp_path)
    assert (large.lut_ram, large.bram) == (0, 1)


def test_cells_without_a_count_are_named():
    with pytest.raises(LiftError, match=r"cells of type ALU54B, NEW have no count"):
        area_of({"LUT4": 3, "NEW": 1, "ALU54B": 2, "PFUMX": 1})


def test_gates_have_two_inputs(tmp_path):
    assert count_gates(PARITY, "top", tmp_path) == Gates(3, 0, 0)
    inverted = "module top(input clk, input a, output reg y); always @(posedge clk) y <= ~a;"
    assert count_gates(f"{inverted} endmodule", "top", tmp_path) == Gates(0, 1, 1)
    assert count_gates(REGISTERED, "top", tmp_path).flip_flops == 8


def test_what_is_no_gate_is_named():
    assert gates_of({"$_SDFFE_PP0P_": 2, "$_DFF_P_": 3, "$_ANDNOT_": 4}) == Gates(4, 0, 5)
    with pytest.raises(LiftError, match=r"\$_MUX_ are neither gate nor flip-flop"):
        gates_of({"$_MUX_": 1})


def test_broken_verilog_is_refused(tmp_path):
    with pytest.raises(LiftError, match=r"yosys rejects it: .*ERROR"):
        map_to_ecp5("module top(input a; endmodule", "top", tmp_path)
