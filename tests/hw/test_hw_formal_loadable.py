# amaranth: UnusedElaboratable=no
"""The loadable decoder: what a write does, sums once loaded, and its buffer by induction."""

import numpy as np
import pytest

from algo.code import LiftCode
from algo.errors import LiftError
from hw import formal_buffer, loadable, window_buffer
from hw.capacity import Capacity
from hw.export import verilog_text
from hw.formal_buffer import FormalBuffer
from hw.formal_control import OtherMachine
from hw.formal_loadable import check_load, check_parts, check_rows, loadable_nets, prove_loaded
from hw.induction import prove_by_induction
from hw.loadable import LoadableDecoder
from hw.netlist import map_verilog
from tests.broken import broken
from tests.cases import least_groups, random_code

SMALL = Capacity(2, 2, 4, 1)


def mapped(capacity=SMALL, part=LoadableDecoder):
    netlist = map_verilog(verilog_text(part(capacity), "top"), "top")
    return netlist, loadable_nets(netlist, capacity)


def test_registers_rows_and_sums_are_proved():
    netlist, nets = mapped()
    assert check_load(netlist, nets) == sum(map(len, nets.places.values()))
    check_rows(netlist, nets)
    assert check_parts(netlist, nets) == SMALL.stages
    for shape in ((2, 1, 2, 1), (2, 2, 0, 0), (3, 2, 2, 0), (1, 1, 0, 0)):
        code = random_code(*shape)
        refutation, nodes = prove_loaded(netlist, nets, SMALL, code, least_groups(code))
        assert refutation is None, (shape, refutation)
        assert nodes > 0


def test_a_decoder_of_one_row_has_no_number_of_it():
    capacity = Capacity(2, 1, 3)
    netlist, nets = mapped(capacity)
    assert nets.row == ()
    check_load(netlist, nets)
    check_rows(netlist, nets)
    code = random_code(2, 1, 1)
    assert prove_loaded(netlist, nets, capacity, code, 3)[0] is None


def test_one_bit_of_a_tap_is_found(monkeypatch):
    netlist, nets = mapped()
    code = random_code(2, 1, 2, 1)
    writes = SMALL.writes(code, 3)
    at = next(n for n, (address, _) in enumerate(writes) if address == 0x1003)
    spoiled = [*writes[:at], (0x1003, writes[at][1] ^ 1), *writes[at + 1 :]]
    monkeypatch.setattr(Capacity, "writes", lambda *_: spoiled)
    refutation, _ = prove_loaded(netlist, nets, SMALL, code, 3)
    assert refutation is not None
    assert abs(refutation.expected - refutation.got) == 1


@pytest.mark.parametrize(
    ("old", "new", "check", "message"),
    [
        ("with m.If(written & (address == at)):", "with m.If(written & (address[:8] == at)):",
         check_load, "bit 0 of address 0x0 is not replaced"),
        ("self.bus.ready.eq(buffer.idle & ~Cat(valids).any())", "self.bus.ready.eq(buffer.idle)",
         check_load, "not ready just where no stream is inside"),
        ("here & (address[: ROW.bit_length() - 1] == column)",
         "here & (address[: ROW.bit_length() - 1] >= column)", check_load, "is not replaced"),
        ("row.eq(Mux(row == last_row, 0, row + 1))", "row.eq(Mux(row == last_row, 1, row + 1))",
         check_rows, "of row is"),
        ("with m.If(issued):", "with m.If(buffer.o.valid):", check_rows, "of row is"),
        ("with m.If(row == i):", "with m.If(row != i):", check_rows, "is not that of row 0"),
        ("read.en.eq(move)", "read.en.eq(1)", check_parts, "does not move with stage 0"),
        ("with m.If(moves[1]):", "with m.If(moves[0]):", check_parts, "does not move with stage 1"),
        ("buffer.hold.eq(self.bus.valid)", "buffer.hold.eq(self.bus.ready)", check_parts,
         "bus__valid is not buffer.hold"),
    ],
)  # fmt: skip
def test_broken_decoders_are_refused(old, new, check, message):
    netlist, nets = mapped(part=broken(loadable, "LoadableDecoder", old, new))
    with pytest.raises(OtherMachine, match=message):
        check(netlist, nets)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Mux(features[n], tap, -tap)", "Mux(features[n], tap, ~tap)"),
        ("(window & mask).xor() ^ ~mask.xor()", "(window & mask).xor() ^ mask.xor()"),
        ("self.o.payload.eq(total)", "self.o.payload.eq(total ^ 4)"),
    ],
)
def test_wrong_sums_are_refuted(old, new):
    netlist, nets = mapped(part=broken(loadable, "LoadableDecoder", old, new))
    code = random_code(2, 1, 2, 1)
    refutation, _ = prove_loaded(netlist, nets, SMALL, code, 3)
    assert refutation is not None
    assert refutation.expected != refutation.got


@pytest.fixture
def short_counters(monkeypatch):
    """Counters of few bits, which make the same proof shorter."""
    monkeypatch.setattr(window_buffer, "COUNTER_BITS", 7)
    monkeypatch.setattr(formal_buffer, "COUNTER_BITS", 7)


TINY = Capacity(1, 1, 2, 0)


def attempt(part=window_buffer.WindowBuffer, capacity=TINY):
    harness = FormalBuffer(capacity, part)
    return prove_by_induction(harness, harness.probes)


def test_the_buffer_is_proved_for_all_time(short_counters):
    assert attempt().outcome == "proved"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(left != 0) & ~(self.idle & self.hold)", "(left != 0)"),
        ("merged >> self.shift", "merged >> 1"),
        ("(left == 0) & ~wrapped", "(left == 0)"),
        ("held.eq(0), fill.eq(0),", "fill.eq(0),"),
        ("given.eq(0), sent.eq(0)", "given.eq(0), sent.eq(sent)"),
        ("Mux(left < WORD, left, WORD)", "WORD"),
    ],
)  # fmt: skip
def test_broken_buffers_are_refuted(short_counters, old, new):
    part = broken(window_buffer, "WindowBuffer", old, new)
    assert attempt(part).outcome == "refuted"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(fill >= self.window) & ~self.idle", "(fill >= 1) & ~self.idle"),
        ("            with m.If(self.idle):\n", "            with m.If(self.idle | (left < 3)):\n"),
    ],
)
def test_what_breaks_after_a_word_has_left_is_never_proved(short_counters, old, new):
    # a word takes 32 cycles to leave, more than are searched for a counterexample
    harness = FormalBuffer(TINY, broken(window_buffer, "WindowBuffer", old, new))
    assert prove_by_induction(harness, harness.probes, steps=2).outcome == "bounded"


def test_a_shift_beyond_the_window_is_not_loaded():
    taps = np.array([[1, 1, 0, 0], [0, 0, 0, 1]], np.int8)
    code = LiftCode(3, 2, 1, (2, 1), taps[:, :4], 0)
    assert code.window == 2
    Capacity(3, 3, 6).check(code, 4)
    far = LiftCode(4, 2, 1, (3, 1), np.array([[1, 1, 0, 0, 0], [0, 0, 0, 1, 1]], np.int8), 0)
    with pytest.raises(LiftError, match=r"shifts by 3 bits, more than its window of 2"):
        Capacity(3, 3, 6).check(far, 4)
