# amaranth: UnusedElaboratable=no
"""Projections in steps: the machine, its sums, and every way of being another one."""

import pytest

from hw import formal_shared, shared
from hw.architecture import parse_architecture
from hw.formal_control import OtherMachine
from hw.formal_shared import FormalShared
from hw.formal_step_sums import prove_steps
from hw.formal_steps import check_steps, stepped_nets
from hw.geometry import Geometry
from hw.induction import prove_by_induction
from hw.netlist import map_verilog
from hw.prove import decoder_verilog
from tests.broken import broken
from tests.cases import random_code

GEOMETRY = Geometry(random_code(2, 1, 6, 2), 9, 2, parse_architecture("shared:3"))


def mapped(geometry):
    netlist = map_verilog(decoder_verilog(geometry))
    part = "projection.projection" if geometry.queued else "projection"
    return netlist, stepped_nets(netlist, geometry, part)


@pytest.mark.parametrize(
    ("shape", "lanes", "architecture", "stages"),
    [
        ((2, 1, 10, 4), 2, "shared:3", 3),
        ((2, 1, 6, 0), 1, "shared:5,inputs=1,flow=credit", 2),
        ((12, 5, 9, 0), 1, "shared:2,inputs=2,levels=2", 2),
        ((3, 2, 0, 0), 3, "shared:4", 1),
    ],
)
def test_projections_in_steps_are_proved(shape, lanes, architecture, stages):
    geometry = Geometry(random_code(*shape), 9, lanes, parse_architecture(architecture))
    netlist, nets = mapped(geometry)
    assert check_steps(netlist, nets) == stages
    refutation, nodes = prove_steps(netlist, nets, geometry)
    assert refutation is None
    assert nodes > 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("m.d.sync += [so_far.eq(0), total.eq(added)]", "m.d.sync += total.eq(added)", "so_far"),
        ("with m.If(steps.adds):", "with m.If(steps.moves[-1]):", "so_far"),
        ("with m.If(steps.completes):", "with m.If(steps.adds):",
         "is not replaced where a beat is complete"),
        ("with m.Elif(issued):", "with m.Elif(self.i.ready):", "is not loaded where a beat"),
        ("held.eq(valid), closing.eq(last)",
         "held.eq(valid), closing.eq(last & self.i.valid)", "last bit"),
        ("step.eq(Mux(closes, 0, step + 1))", "step.eq(step + 1)", "of step is not what"),
        ("with m.If(self.i.ready):", "with m.If(issued):", "busy is not what"),
        ("self.i.ready.eq(~busy | (closes & moves[0]))", "self.i.ready.eq(~busy)", "busy"),
        ("free.eq(~last | ~complete | self.o.ready)", "free.eq(~complete | self.o.ready)",
         "is not what"),
        ("self.o.valid.eq(complete)", "self.o.valid.eq(complete & ~busy)", "output's valid"),
        ("for move in steps.moves[1:]:", "for move in [steps.moves[0]]:", "move with stage 1"),
        ("accumulator(total, weights[i].odd, ACC_WIDTH)",
         "accumulator(total ^ steps.issued, weights[i].odd, ACC_WIDTH)", "past the totals"),
    ],
)  # fmt: skip
def test_other_machines_are_refused(monkeypatch, old, new, message):
    made = broken(shared, "SharedProjection", old, new)
    monkeypatch.setattr("hw.projections.SharedProjection", made)
    netlist, nets = mapped(GEOMETRY)
    with pytest.raises(OtherMachine, match=message):
        check_steps(netlist, nets)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('self.i.payload, bits, "window"', 'self.i.payload, bits + 1, "window"'),
        ("at = lane * code.lifted + start", "at = start"),
        ("(own & mask).xor()", "(own & mask).any()"),
        ("held.eq(value)", "held.eq(value ^ 1 if x == 1 and at == 2 else value)"),
        ("added.eq(so_far + part.value)", "added.eq(so_far + (part.value >> 1))"),
    ],
)
def test_wrong_sums_are_refuted_with_a_window(monkeypatch, old, new):
    made = broken(shared, "SharedProjection", old, new)
    monkeypatch.setattr("hw.projections.SharedProjection", made)
    netlist, nets = mapped(GEOMETRY)
    check_steps(netlist, nets)  # the machine is the same
    refutation, _ = prove_steps(netlist, nets, GEOMETRY)
    assert refutation is not None
    assert refutation.expected != refutation.got


@pytest.mark.parametrize(("cycles", "stages"), [(2, 1), (3, 2), (7, 4), (32, 1)])
def test_steps_are_proved_for_all_time(cycles, stages):
    assert prove_by_induction(FormalShared(cycles, stages)).outcome == "proved"


@pytest.mark.parametrize(
    ("cycles", "old", "new"),
    [
        (3, "free = ~lasts[-1] | ~complete | self.o_ready", "free = ~lasts[-1] | ~complete"),
        (3, "free = ~lasts[-1] | ~complete | self.o_ready", "free = lasts[-1] | ~lasts[-1]"),
        (3, "issued = busy & moves[0]", "issued = busy"),
        # with three, the last step never waits in front of two stages
        (2, "ready = ~busy | (closes & moves[0])", "ready = ~busy | closes"),
        (3, "Mux(closes, 0, step + 1)", "step + 1"),
        (3, "lasts[s].eq(lasts[s - 1] if s else closes)", "lasts[s].eq(closes)"),
        (3, "complete.eq(completes | (complete & ~self.o_ready))", "complete.eq(completes)"),
    ],
)
def test_broken_steps_are_refuted(cycles, old, new):
    made = broken(formal_shared, "FormalShared", old, new)
    assert prove_by_induction(made(cycles, 2)).outcome == "refuted"
