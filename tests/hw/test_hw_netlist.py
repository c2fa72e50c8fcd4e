import pytest

from algo.errors import LiftError
from hw.netlist import CombinationalLoop, map_verilog
from hw.yosys import run_yosys

COUNTER = """
module top(input clk, input rst, input step, output [1:0] count, output both);
  reg [1:0] held = 2'b01;
  always @(posedge clk) if (rst) held <= 0; else if (step) held <= held + 1;
  assign count = held;
  assign both = &held;
endmodule
"""


def test_registers_and_gates_are_read():
    netlist = map_verilog(COUNTER, "top")
    assert set(netlist.inputs) == {"clk", "rst", "step"}
    assert [netlist.registers[q].init for q in netlist.outputs["count"]] == [1, 0]
    assert netlist.clock == netlist.inputs["clk"][0]
    assert netlist.signal("held") == netlist.outputs["count"]
    both = netlist.sources(netlist.outputs["both"], lambda net: False)
    assert both == set(netlist.outputs["count"])
    held = netlist.registers[netlist.outputs["count"][0]]
    inputs = netlist.sources([held.d, held.enable], lambda net: False)
    assert inputs == {held.q, netlist.inputs["rst"][0], netlist.inputs["step"][0]}
    assert netlist.name_of(held.q) in ("held[0]", "count[0]")


def test_order_puts_causes_first_and_stops_at_the_cut():
    netlist = map_verilog(COUNTER, "top")
    (both,) = netlist.outputs["both"]
    order = netlist.ordered_cone([both], lambda net: False)
    assert order[-1] == both
    for at, net in enumerate(order):
        assert all(source in order[:at] for source in netlist.gates.get(net, ()))
    assert netlist.ordered_cone([both], lambda net: net == both) == [both]


def test_a_net_that_depends_on_itself_is_found():
    netlist = map_verilog(
        "module top(input a, output y); wire z; assign z = ~(a & y); assign y = ~(z & a);"
        " endmodule",
        "top",
    )
    with pytest.raises(CombinationalLoop, match="depends on itself"):
        netlist.ordered_cone(netlist.outputs["y"], lambda net: False)


def test_the_other_edge_is_another_clock():
    text = "module top(input clk, input a, output reg y); always @(negedge clk) y <= a; endmodule"
    netlist = map_verilog(text, "top")
    assert netlist.clock is not None
    assert netlist.clock != netlist.inputs["clk"][0]


def test_signals_that_do_not_exist_are_named():
    with pytest.raises(LiftError, match="no signal 'nothing'"):
        map_verilog(COUNTER, "top").signal("nothing")


@pytest.mark.parametrize(
    ("verilog", "message"),
    [
        ("module top(input a; endmodule", "yosys rejects it: .*ERROR"),
        ("module other; endmodule", "yosys rejects it: .*ERROR"),
        (
            "module top(input b, input c, input a, output reg y, output reg z);"
            " always @(posedge b) y <= a; always @(posedge c) z <= a; endmodule",
            "more than one clock",
        ),
        (
            "module top(input e, input a, output reg y); always @* if (e) y = a; endmodule",
            "yosys rejects|LATCH",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(verilog, message):
    with pytest.raises(LiftError, match=message):
        map_verilog(verilog, "top")


def test_yosys_is_asked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("hw.yosys.importlib.util.find_spec", lambda name: None)
    with pytest.raises(LiftError, match=r"yosys is missing; pip install 'liftquant\[rtl\]'"):
        run_yosys(["help"], tmp_path)
