# amaranth: UnusedElaboratable=no
"""Streams by induction: whole at odd sizes, and refuted wherever a line of the part is broken."""

import re

import pytest

from algo.errors import LiftError
from hw import formal_chain, gearbox, window
from hw.formal_chain import FormalChain
from hw.formal_gearbox import FormalGearbox
from hw.formal_window import FormalWindow
from hw.geometry import Geometry
from hw.induction import prove_by_induction
from hw.prove import decoder_verilog, prove_decoder
from tests.broken import broken
from tests.cases import random_code

# shape, groups, lanes: one beat a stream, a partial last chunk, whole words, windows over several
# chunks, streams shorter than the queue
GEOMETRIES = [
    ((2, 1, 6, 0), 4, 1),
    ((2, 1, 6, 0), 7, 7),
    ((2, 1, 6, 0), 9, 2),
    ((2, 1, 10, 0), 33, 1),
    ((12, 5, 9, 0), 8, 3),
    ((3, 1, 9, 0), 5, 4),
]
BLOCK = [((3, 2, 0, 0), 5, 2), ((16, 8, 0, 0), 4, 1), ((1, 1, 0, 0), 1, 1)]


def attempt(harness):
    return prove_by_induction(harness, harness.probes)


@pytest.mark.parametrize("case", GEOMETRIES + BLOCK)
def test_gearbox_is_proved_for_all_time(case):
    shape, groups, lanes = case
    assert attempt(FormalGearbox(Geometry(random_code(*shape), groups, lanes))).outcome == "proved"


@pytest.mark.parametrize("case", GEOMETRIES)
def test_window_is_proved_for_all_time(case):
    shape, groups, lanes = case
    assert attempt(FormalWindow(Geometry(random_code(*shape), groups, lanes))).outcome == "proved"


@pytest.mark.parametrize("stages", [1, 2, 3, 6])
def test_chain_is_proved_for_all_time(stages):
    assert prove_by_induction(FormalChain(stages)).outcome == "proved"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("held & Mux(last_out,", "held | Mux(last_out,"),
        ("merged >> chunk)", "merged >> (chunk - 1))"),
        ("merged >> self.geometry.last_chunk_bits,", "merged >> chunk,"),
        ("(fill >= leaving)", "(fill >= 1)"),
        ("(fill >= leaving)", "(fill >= leaving + 1)"),
        ("(fill < accept_below // unit)", "(C(1))"),
        ("- Mux(given, leaving, 0)", "- Mux(given, 1, 0)"),
        ("held | (incoming << shift)", "held | (incoming << (shift + 1))"),
        ("held | (incoming << shift)", "held ^ (held[0] << 3) | (incoming << shift)"),
        ("taken, Mux(last_in, _ones(self.geometry.last_beat_bits)", "1, Mux(last_in, _ones(beat)"),
        ("last_of(m, self.geometry.beats_out,", "last_of(m, self.geometry.beats_out + 1,"),
    ],
)
def test_broken_gearbox_is_refuted(old, new):
    geometry = Geometry(random_code(6, 3), 7, 2)
    part = broken(gearbox, "Gearbox", old, new)
    assert attempt(FormalGearbox(geometry, part)).outcome == "refuted"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(level != slots)", "(1)"),
        ("(level >= slots - 1)", "(level >= slots - 2)"),
        ("(level >= slots - 1)", "(level >= slots)"),
        ("| (level >= left)", ""),
        ("merged >> chunk)", "merged >> (chunk + 1))"),
        ("level + taken - given", "level + taken - (given & (level != 1))"),
        ("left == 1, beats, left - 1", "left == 1, beats, left"),
        ("given & (left == beats)", "given"),
        ("kept.eq(queue)", "kept.eq(queue >> 1)"),
        ("queue[:overlap] if beats_left == beats else kept", "queue[:overlap]"),
        ("Cat(queue[:rest], head,", "Cat(queue[:rest], C(0, 1), head,"),
        ("if rest >= width:", "if rest >= width - 1:"),
    ],
)
def test_broken_window_is_refuted(old, new):
    part = broken(window, "Window", old, new)
    assert attempt(FormalWindow(Geometry(random_code(2, 1, 3), 5), part)).outcome == "refuted"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("move = ~valids[s] | move\n", "move = ~valids[s]\n"),  # a full chain overwrites nothing
        ("move = ~valids[s] | move\n", "move = C(1)\n"),
        ("valids[s - 1] if s else", "valids[s] if s else"),
        ("data[s - 1] if s else", "data[s] if s else"),
        ("data[s - 1] if s else self.i_payload", "~data[s - 1] if s else self.i_payload"),
    ],
)
def test_broken_chain_is_refuted(old, new):
    made = broken(formal_chain, "FormalChain", old, new.replace("C(1)", "Cat(1).any()"))
    assert prove_by_induction(made(3)).outcome == "refuted"


def test_an_invariant_that_is_missing_leaves_a_stated_bound():
    old = "Assert(held == _count(valids))"
    made = broken(formal_chain, "FormalChain", old, "Assert(held <= self.stages)")
    found = prove_by_induction(made(2), steps=3)
    assert (found.outcome, found.depth) == ("bounded", 3)


def test_a_refutation_shows_the_cycles():
    made = broken(formal_chain, "FormalChain", "data[s - 1] if s", "data[s] if s")
    found = prove_by_induction(made(2))
    assert found.trace.startswith("  Time Signal Name")
    assert "\\i_payload" in found.trace
    assert found.depth > 1


def test_a_probe_without_its_signal_is_an_error():
    harness = FormalGearbox(Geometry(random_code(2, 1, 6), 33))
    assert set(harness.probes) == {"fill", "held", "beats_left", "chunks_left"}
    with pytest.raises(LiftError, match=r"yosys rejects it: .*ERROR"):
        prove_by_induction(harness, {**harness.probes, "fill": "dut.level"})


def test_windows_without_overlap_are_wires():
    with pytest.raises(LiftError, match=r"LQ-16/8 has no overlap: its window is wires"):
        FormalWindow(Geometry(random_code(16, 8), 4))


def test_the_exported_text_is_what_is_proved():
    geometry = Geometry(random_code(2, 1, 6), 9)
    verilog = decoder_verilog(geometry)
    text, count = re.subn(r"held <= (\S+) ;", r"held <= \1 << 1;", verilog)
    assert count == 1
    outcomes = {p.claim: p.outcome for p in prove_decoder(geometry, text)}
    assert {claim for claim, o in outcomes.items() if o == "refuted"} == {"gearbox"}
    assert set(outcomes) == {
        "sums", "pipeline", "chain", "gearbox", "window", "wiring", "paths",
    }  # fmt: skip


def test_parts_that_are_not_connected_are_named():
    geometry = Geometry(random_code(2, 1, 6), 9)
    verilog = decoder_verilog(geometry)
    text, count = re.subn(r"\.i__valid\(\\i__valid\$21 \)", ".i__valid(1'h1)", verilog)
    assert count == 1
    proofs = {p.claim: p for p in prove_decoder(geometry, text)}
    assert (proofs["wiring"].outcome, proofs["wiring"].detail) == (
        "refuted", "window.o__valid is not projection.i__valid",
    )  # fmt: skip
