from random import Random

import pytest

from algo.errors import LiftError
from hw.netlist import map_verilog
from hw.netlist_sim import NetlistSimulator

ACCUMULATOR = """
module top(input clk, input rst, input step, input [4:0] add, output [4:0] total, output zero);
  reg [4:0] held = 5'd3;
  always @(posedge clk) if (rst) held <= 0; else if (step) held <= held + add;
  assign total = held;
  assign zero = held == 0;
endmodule
"""


def test_lanes_run_side_by_side():
    lanes, random = 70, Random(3)  # more than a machine word
    simulator = NetlistSimulator(map_verilog(ACCUMULATOR, "top"), lanes)
    model = [3] * lanes
    for _ in range(40):
        reset = [int(random.random() < 0.1) for _ in range(lanes)]
        step = [random.getrandbits(1) for _ in range(lanes)]
        add = [random.getrandbits(5) for _ in range(lanes)]
        for port, values in (("rst", reset), ("step", step), ("add", add)):
            simulator.set(port, values)
        simulator.settle()
        assert simulator.get("total") == model
        assert simulator.get("zero") == [int(value == 0) for value in model]
        simulator.edge()
        model = [
            0 if r else (value + a) % 32 if s else value
            for value, r, s, a in zip(model, reset, step, add, strict=True)
        ]


def test_registers_start_at_random_only_where_asked():
    netlist = map_verilog(ACCUMULATOR, "top")
    simulator = NetlistSimulator(netlist, 64, seed=5)
    simulator.settle()
    assert simulator.get("total") == [3] * 64
    simulator.scramble()
    simulator.settle()
    assert len(set(simulator.get("total"))) > 8


def test_undefined_nets_are_random():
    text = """
module top(input clk, input [1:0] at, output reg y);
  always @* case (at) 2'd0: y = 0; 2'd1: y = 1; default: y = 1'bx; endcase
endmodule
"""
    netlist = map_verilog(text, "top")
    simulator = NetlistSimulator(netlist, 64)
    simulator.set("at", [n // 16 for n in range(64)])
    simulator.settle()
    values = simulator.get("y")
    assert values[:32] == [0] * 16 + [1] * 16


def test_a_loop_is_refused():
    loop = "module top(input a, output y); wire z; assign z = ~(a & y); assign y = ~(z & a);"
    with pytest.raises(LiftError, match=r"combinational loop: net .* depends on itself"):
        NetlistSimulator(map_verilog(f"{loop} endmodule", "top"), 1)
