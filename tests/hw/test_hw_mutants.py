import pytest

from algo.errors import LiftError
from algo.shipped import find_code
from hw.geometry import Geometry
from hw.mutants import SELECT, make_mutants
from hw.netlist_sim import NetlistSimulator
from hw.prove import TOP, decoder_verilog

COUNTER = """
module top(input clk, input rst, input step, output [3:0] count);
  reg [3:0] held = 0;
  always @(posedge clk) if (rst) held <= 0; else if (step) held <= held + 1;
  assign count = held;
endmodule
"""


def run(mutants, cycles=40):
    """The counter's values in every lane, lane 0 without a fault, stepped and then held."""
    numbers = range(len(mutants.mutants) + 1)
    simulator = NetlistSimulator(mutants.netlist, len(numbers))
    simulator.set(SELECT, numbers)
    values = []
    for cycle in range(cycles):
        simulator.set("step", [int(cycle % 5 != 4)] * len(numbers))
        simulator.set("rst", [int(cycle == 30)] * len(numbers))
        simulator.settle()
        values.append(simulator.get("count"))
        simulator.edge()
    return list(zip(*values, strict=True))


def test_each_number_is_one_fault_and_zero_is_none():
    mutants = make_mutants(COUNTER, "top", 30, seed=1)
    assert [mutant.number for mutant in mutants.mutants] == list(range(1, 31))
    original, *others = run(mutants)
    expected, count = [], 0
    for cycle in range(40):
        expected.append(count)
        count = 0 if cycle == 30 else (count + (cycle % 5 != 4)) % 16
    assert list(original) == expected
    changed = [values != original for values in others]
    assert sum(changed) > 15
    assert len({*others}) > 10


def test_a_seed_repeats_mutants_and_another_does_not():
    verilog = decoder_verilog(Geometry(find_code("LQ-2/1+6"), 20))
    one, same, other = (make_mutants(verilog, TOP, 30, seed) for seed in (4, 4, 5))
    assert one.mutants == same.mutants != other.mutants
    assert one.netlist == same.netlist


def test_mutants_say_where_they_are_and_leave_clocks_alone():
    verilog = decoder_verilog(Geometry(find_code("LQ-2/1+6"), 20))
    lines = verilog.splitlines()
    mutants = make_mutants(verilog, TOP, 120, 0).mutants
    assert not any(mutant.port.startswith("CLK") for mutant in mutants)
    assert {mutant.mode for mutant in mutants} == {"inv", "const0", "const1", "cnot0", "cnot1"}
    for mutant in mutants:
        assert (mutant.control is not None) == mutant.mode.startswith("cnot")
        if mutant.source:
            first, last = (int(n) for n in (mutant.source.split("-") * 2)[:2])
            assert 1 <= first <= last <= len(lines)
    adders = [mutant for mutant in mutants if "$add" in mutant.cell]
    assert adders
    assert all("+" in lines[int(mutant.source) - 1] for mutant in adders)
    assert f"line {adders[0].source}" in adders[0].describe()


def test_initial_values_outlast_a_fault_at_the_output():
    text = COUNTER.replace("held = 0", "held = 10").replace("held <= 0", "held <= 10")
    mutants = make_mutants(text, "top", 200, seed=2)
    assert any(mutant.port.startswith("Q") for mutant in mutants.mutants)
    assert sorted(r.init for r in mutants.netlist.registers.values()) == [0, 0, 1, 1]
    assert run(mutants)[0][0] == 10


def test_too_many_and_none_are_refused():
    with pytest.raises(LiftError, match="mutants=0: ask for at least one"):
        make_mutants(COUNTER, "top", 0, 0)
    with pytest.raises(LiftError, match=r"yosys found \d+ places for faults; ask for at most that"):
        make_mutants(COUNTER, "top", 5000, 0)
