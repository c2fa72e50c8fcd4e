# amaranth: UnusedElaboratable=no
"""The last stage by decision diagrams: the specification is the oracle's, and faults are found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.activations import requantise
from hw import decoder as decoder_module
from hw import formal_output
from hw import requantise as requantise_module
from hw import resize as resize_module
from hw.decoder import Decoder
from hw.export import verilog_text
from hw.formal_arithmetic import make_manager
from hw.formal_control import OtherMachine
from hw.formal_output import (
    free_multiplier_bits,
    prove_output,
    specified_integer,
    specified_output,
)
from hw.formal_wiring import check_finish, check_last
from hw.geometry import Geometry
from hw.netlist import map_verilog
from hw.output import ACC_WIDTH, Output, Scale
from hw.requantise import Requantise
from hw.resize import Resize
from tests.broken import broken
from tests.cases import random_code

SUMS = st.integers(-2047, 2047)


@given(SUMS, st.data())
def test_integers_are_the_oracles(total, data):
    scale = Scale("in", data.draw(st.integers(1, 31)), data.draw(st.integers(1, 40)))
    output = Output(data.draw(st.integers(2, 32)), scale)
    factor = data.draw(st.integers(0, 2**scale.multiplier_bits - 1))
    (expected,) = requantise(np.array([total]), factor, scale.shift, output.width)
    assert specified_integer(total, factor, output) == expected


@settings(max_examples=60, deadline=None)
@given(SUMS, st.data())
def test_diagrams_are_the_integers(total, data):
    scale = Scale("in", data.draw(st.integers(1, 5)), data.draw(st.integers(1, 18)))
    scaled = data.draw(st.booleans())
    output = Output(data.draw(st.integers(2, 20)), scale if scaled else None)
    factor = data.draw(st.integers(0, 2**scale.multiplier_bits - 1))
    manager = make_manager()
    constant = [manager.false, manager.true]
    bits = [constant[total >> n & 1] for n in range(ACC_WIDTH)]
    multiplier = [constant[factor >> n & 1] for n in range(scale.multiplier_bits)]
    got = specified_output(manager, bits, multiplier if scaled else [], output)
    value = sum((bit == manager.true) << n for n, bit in enumerate(got))
    assert value - (value >> output.width - 1 << output.width) == specified_integer(
        total, factor, output
    )


def geometry_of(output, shape=(3, 2)):
    return Geometry(random_code(*shape), 9, 1, output=output)


def proved(part, output):
    """What `prove_output` says of a part by itself."""
    netlist = map_verilog(verilog_text(part, "liftquant_decoder"))
    inputs, outputs = netlist.inputs, netlist.outputs
    factors = inputs["scale__payload"] if output.scale else ()
    return prove_output(netlist, inputs["i__payload"], factors, outputs["o__payload"], output)


@pytest.mark.parametrize("width", [2, 7, 11])
def test_saturation_is_proved(width):
    output = Output(width)
    wrong, nodes, circuits = proved(Resize(geometry_of(output)), output)
    assert wrong is None
    assert nodes > 0
    assert 1 <= circuits <= 2  # one where both weights became the same gates


@pytest.mark.parametrize(
    ("axis", "bits", "shift", "width"),
    [("in", 1, 1, 2), ("out", 5, 7, 8), ("in", 6, 20, 8), ("out", 3, 2, 20), ("in", 4, 40, 8)],
)
def test_requantisation_is_proved(axis, bits, shift, width):
    output = Output(width, Scale(axis, bits, shift))
    wrong, _, _ = proved(Requantise(geometry_of(output), output.scale), output)
    assert wrong is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("total > limit - 1", "total > limit"),
        ("total < -limit", "total < -limit - 1"),
        ("Mux(high, limit - 1,", "Mux(high, limit - 2,"),
        ("Mux(low, -limit, total)", "Mux(low, 1 - limit, total)"),
    ],
)
def test_broken_saturation_is_refuted(old, new):
    output = Output(6)
    wrong, _, _ = proved(broken(resize_module, "Resize", old, new)(geometry_of(output)), output)
    assert wrong is not None
    assert wrong.expected == max(-32, min(31, wrong.total)) != wrong.got
    assert wrong.describe().startswith(f"weight 0, sum {wrong.total}, multiplier 1: expected ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(product + (1 << shift - 1)) >> shift", "(product + (1 << shift - 1) - 1) >> shift"),
        ("(product + (1 << shift - 1)) >> shift", "product >> shift"),
        ("(1 << width - 1) - 1 + minus", "(1 << width - 1) - 1"),
        ("magnitude * factor", "magnitude * (factor | (magnitude == 1234))"),
        ("abs(value)[:_MAGNITUDE]", "value[:_MAGNITUDE]"),
        ("Mux(minus, -bounded, bounded)", "Mux(minus, ~bounded, bounded)"),
        ('f"multiplier_{n}")\n', 'f"multiplier_{n}") ^ (n == 1)\n'),
    ],
)
def test_broken_requantisation_is_refuted(old, new):
    output = Output(8, Scale("out", 5, 6))
    part = broken(requantise_module, "Requantise", old, new)(geometry_of(output), output.scale)
    wrong, _, _ = proved(part, output)
    assert wrong is not None
    (expected,) = requantise(np.array([wrong.total]), wrong.multiplier, 6, 8)
    assert wrong.expected == expected != wrong.got


def test_long_multipliers_are_proved_piece_by_piece(monkeypatch):
    assert free_multiplier_bits(16) == [range(16)]
    pieces = free_multiplier_bits(31)
    assert set().union(*pieces) == set(range(31))
    assert {len(piece) for piece in pieces} == {12}

    monkeypatch.setattr(formal_output, "WHOLE_MULTIPLIERS", 3)
    monkeypatch.setattr(formal_output, "_PART", 2)
    output = Output(8, Scale("in", 5, 9))
    assert proved(Requantise(geometry_of(output), output.scale), output)[0] is None
    high = broken(requantise_module, "Requantise", "magnitude * factor", "magnitude * factor[:4]")
    wrong, _, _ = proved(high(geometry_of(output), output.scale), output)
    assert wrong is not None
    assert wrong.multiplier >= 16


def finished(monkeypatch, old, new, axis="in"):
    """A small decoder whose last stage is broken."""
    made = broken(requantise_module, "Requantise", old, new)
    monkeypatch.setattr(decoder_module, "Requantise", made)
    output = Output(8, Scale(axis, 2, 3))
    decoder = Decoder(random_code(3, 2), 6, output=output)
    return map_verilog(verilog_text(decoder, "liftquant_decoder")), decoder.geometry


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("self.i.valid & (1 if whole else last)", "self.i.valid & (1 if whole else ~last)",
         "not taken with a stream's last beat"),
        ("moves[0] & self.i.valid & (1 if whole else last)", "moves[0] & last", "not taken with"),
        ("self.geometry.beats_out, both", "self.geometry.beats_out - 1, both", "beats left"),
        ("both & moves[0], ", "self.i.valid & moves[0], ", "beats left"),
        ("self.i.ready.eq(moves[0] & self.scale.valid)", "self.i.ready.eq(moves[0])",
         "input's ready"),
        ("stage_moves(m, 3, both,", "stage_moves(m, 3, self.i.valid,", "valid bit|signals"),
        ("stage_moves(m, 3, both,", "stage_moves(m, 4, both,", "3 stages of data, but 4"),
    ],
)  # fmt: skip
def test_multipliers_taken_at_the_wrong_time_are_refused(monkeypatch, old, new, message):
    netlist, geometry = finished(monkeypatch, old, new)
    with pytest.raises(OtherMachine, match=message):
        check_finish(netlist, geometry)


@pytest.mark.parametrize("axis", ["in", "out"])
def test_the_last_stage_is_a_chain(monkeypatch, axis):
    line = "both = self.i.valid & self.scale.valid"
    netlist, geometry = finished(monkeypatch, line, line, axis)
    assert check_finish(netlist, geometry) == 3


@pytest.mark.parametrize(("beats", "right"), [(6, True), (5, False)])
def test_the_mark_of_the_last_beat(monkeypatch, beats, right):
    from hw.counting import last_of

    monkeypatch.setattr(
        decoder_module, "last_of", lambda m, count, *others: last_of(m, beats, *others)
    )
    decoder = Decoder(random_code(3, 2), 6, mark_last=True)
    netlist = map_verilog(verilog_text(decoder, "liftquant_decoder"))
    if right:
        check_last(netlist, decoder.geometry)
    else:
        with pytest.raises(OtherMachine, match="bit 0 of the beats left is not"):
            check_last(netlist, decoder.geometry)
