# amaranth: UnusedElaboratable=no
"""Credits and the output queue by induction, and refuted wherever a line of them is broken."""

import re

import pytest

from algo.errors import LiftError
from hw import credit
from hw.architecture import parse_architecture
from hw.formal_credit import FormalCredit
from hw.geometry import Geometry
from hw.induction import prove_by_induction
from hw.prove import decoder_verilog, prove_decoder
from tests.broken import broken
from tests.cases import random_code


def geometry_of(shape, groups, lanes, architecture):
    return Geometry(random_code(*shape), groups, lanes, parse_architecture(architecture))


SMALL = geometry_of((2, 1, 6, 0), 9, 1, "tables:4,flow=credit")


def attempt(harness, verilog=None):
    return prove_by_induction(harness, harness.probes, verilog, cuts=harness.cuts)


@pytest.mark.parametrize(
    "case",
    [
        ((2, 1, 6, 0), 9, 3, "tables:3,flow=credit"),
        ((3, 2, 0, 0), 5, 1, "tree,flow=credit"),
        ((2, 1, 10, 4), 33, 2, "shared:3,inputs=1,flow=credit"),
    ],
)
def test_credits_are_proved_for_all_time_as_exported(case):
    geometry = geometry_of(*case)
    text = (decoder_verilog(geometry), "liftquant_decoder.projection")
    assert attempt(FormalCredit(geometry), text).outcome == "proved"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self.i.ready.eq((credits != 0) & projection.i.ready)",
         "self.i.ready.eq(projection.i.ready)"),
        ("projection.i.valid.eq((credits != 0) & self.i.valid)",
         "projection.i.valid.eq(self.i.valid)"),
        ("projection.i.payload.eq(self.i.payload)", "projection.i.payload.eq(self.i.payload << 1)"),
        ("projection.o.ready.eq(1)", "projection.o.ready.eq(self.o.ready)"),
        ("write.en.eq(projection.o.valid)", "write.en.eq(projection.o.valid & (level != 0))"),
        ("write.data.eq(projection.o.payload)",
         "write.data.eq(projection.o.payload.rotate_left(1))"),
        ("self.o.valid.eq(level != 0)", "self.o.valid.eq(level > 1)"),
        ("self.o.payload.eq(read.data)", "self.o.payload.eq(read.data ^ (level == 2))"),
        ("credits.eq(credits + left - entered)", "credits.eq(credits - entered)"),
        ("credits.eq(credits + left - entered)", "credits.eq(credits + self.o.ready - entered)"),
        ("level.eq(level + projection.o.valid - left)", "level.eq(level + projection.o.valid)"),
        ("write_at.eq(write_at + projection.o.valid)", "write_at.eq(write_at + 1)"),
        ("read_at.eq(read_at + left)", "read_at.eq(read_at + self.o.ready)"),
    ],
)  # fmt: skip
def test_broken_credits_are_refuted(old, new):
    part = broken(credit, "Credited", old, new)
    assert attempt(FormalCredit(SMALL, part)).outcome == "refuted"


def test_a_projection_that_is_not_ready_is_waited_for():
    line = "self.i.ready.eq((credits != 0) & projection.i.ready)"
    part = broken(credit, "Credited", line, "self.i.ready.eq(credits != 0)")
    in_steps = geometry_of((2, 1, 6, 0), 9, 1, "shared:3,flow=credit")
    assert attempt(FormalCredit(in_steps, part)).outcome == "refuted"
    # elsewhere it is ready whenever its output is, which a place in the queue sees to
    assert attempt(FormalCredit(SMALL, part)).outcome == "proved"


def test_a_projection_that_makes_up_beats_would_be_seen(monkeypatch):
    monkeypatch.setattr("hw.formal_credit.Assume", lambda _: [])
    assert attempt(FormalCredit(SMALL)).outcome == "refuted"


def test_a_cut_without_its_signal_is_an_error():
    harness = FormalCredit(SMALL)
    with pytest.raises(LiftError, match=r"yosys rejects it: .*ERROR"):
        prove_by_induction(harness, harness.probes, cuts=["dut.projection.nothing"])


def test_the_whole_decoder_names_the_port_that_is_not_connected():
    verilog = decoder_verilog(SMALL)
    at = verilog.index("\\liftquant_decoder.projection  projection")
    found = re.compile(r"\.\\i__valid\$\d+ \([^)]*\)").search(verilog, at)
    assert found is not None
    text = verilog.replace(found[0], re.sub(r"\([^)]*\)", "(1'h1)", found[0]))
    proofs = {p.claim: p for p in prove_decoder(SMALL, text)}
    assert {claim for claim, p in proofs.items() if p.outcome != "proved"} == {"wiring"}
    assert proofs["wiring"].detail == "window.o__valid is not projection.i__valid"
