"""Faults that are none are proved to be none; no fault that shows is."""

import pytest

from hw.equivalence import Equivalence
from hw.mutants import selected
from hw.netlist import map_verilog
from hw.netlist_sim import NetlistSimulator
from hw.reachable import Reachable

# one stage, closed for one cycle in three: `turn` counts 0, 1, 2
STAGE = """
module top(input clk, input rst, input [3:0] mutsel, input i__valid, output i__ready,
           input [1:0] i__payload, output o__valid, input o__ready, output [1:0] o__payload);
  reg full = 0;
  reg [1:0] turn = 0;
  reg [1:0] held = 0;
  wire open = turn == 0 || (mutsel == 1 && turn == 3) || (turn == 1 && mutsel != 2);
  wire move = !full || o__ready;
  assign i__ready = open && (mutsel == 3 ? 1'b1 : move);
  assign o__valid = full;
  assign o__payload = mutsel == 4 ? held ^ {2{!full}} : mutsel == 5 ? {held[0], held[1]} : held;
  wire taken = i__valid && i__ready;
  always @(posedge clk) begin
    if (taken || (mutsel == 6 && move) || (mutsel == 7 && i__valid)) held <= i__payload;
    if (rst) full <= 0; else if (taken || move) full <= taken;
    if (rst) turn <= 0;
    else if (mutsel == 8) turn <= turn == 0 ? 1 : turn == 1 ? 3 : 0;
    else turn <= turn == 2 ? 0 : turn + 1;
    if (rst && mutsel == 9) full <= full;
  end
endmodule
"""
SAME = {
    0: "the fault changes no logic",
    1: "same next state and outputs in every state that can be reached",
    4: "same next state and outputs in every state that can be reached",
    6: "registers differ only while nothing reads them",
    8: "other states of the control, same outputs",
}
OTHER = {2: "less open", 3: "overrun", 5: "bits swapped", 7: "overwritten", 9: "no reset"}


@pytest.fixture(scope="module")
def equivalence():
    return Equivalence(map_verilog(STAGE, "top"))


@pytest.mark.parametrize("mutant", SAME)
def test_what_is_the_same_is_proved(equivalence, mutant):
    step = equivalence.same_step(mutant)
    if "every state" in SAME[mutant] or not mutant:
        assert step == SAME[mutant]
    else:
        assert step is None
        assert equivalence.same(mutant) == SAME[mutant]


@pytest.mark.parametrize("mutant", OTHER, ids=OTHER.values())
def test_what_is_not_the_same_is_not_proved(equivalence, mutant):
    assert equivalence.same_step(mutant) is None
    assert equivalence.same(mutant) is None


def test_selecting_leaves_one_machine():
    netlist = map_verilog(STAGE, "top")
    for mutant in (0, 5):
        alone = selected(netlist, mutant)
        simulator = NetlistSimulator(alone, 16)
        simulator.set("mutsel", range(16))  # without effect
        simulator.set("i__valid", [1] * 16)
        simulator.set("i__payload", [1] * 16)
        simulator.settle()
        simulator.edge()
        simulator.settle()
        assert simulator.get("o__payload") == [2 if mutant else 1] * 16


def test_reachable_states_are_those_and_no_others():
    reachable = Reachable(selected(map_verilog(STAGE, "top"), 0))
    words = {word.name: sorted(word.is_value) for word in reachable.words}
    assert words == {"full": [0, 1], "turn": [0, 1, 2]}
    assert reachable.manager.count(reachable.states, nvars=3) == 2 * 3
