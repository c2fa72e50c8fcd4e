"""How good the bench is, on samples of mutants; and what each of its checks is for."""

from dataclasses import replace

import pytest

from algo.errors import LiftError
from algo.shipped import find_code
from hw.equivalence import Equivalence
from hw.geometry import Geometry
from hw.mutants import make_mutants
from hw.prove import TOP, decoder_verilog
from sim import mutation
from sim.decoder_passes import Weakening, decoder_passes
from sim.mutation import try_mutants

GEOMETRY = Geometry(find_code("LQ-2/1+6"), 20)
SEED = 3


@pytest.fixture(scope="module")
def sample():
    return make_mutants(decoder_verilog(GEOMETRY), TOP, 120, SEED)


@pytest.fixture(scope="module")
def result(sample):
    return try_mutants(GEOMETRY, sample, SEED)


def test_the_bench_kills_the_sample(result):
    assert result.score >= 99, [v for v in result.verdicts if v.outcome == "survivor"]
    assert result.count("killed") > 80
    assert sum(result.count(o) for o in ("killed", "equivalent", "survivor")) == 120
    assert sum(result.killed_by().values()) == result.count("killed")


def test_no_killed_mutant_is_proved_equivalent(sample, result):
    equivalence = Equivalence(sample.netlist)
    killed = [v.mutant.number for v in result.verdicts if v.outcome == "killed"]
    assert [number for number in killed if equivalence.same_step(number)] == []


# faults by hand, in the decoder itself
KNOWN = {
    "stalls": (r"assign \$2  = ~ valid_1;", r"assign \$2  = 1'h1;"),  # moves though none takes it
    "cycles": ("fill < 2'h2", "fill < 2'h1"),  # takes a word only when it is empty
    "resets": ("34'h000000000;\n    end\n  end", "held;\n    end\n  end"),  # bits outlast a reset
}


@pytest.mark.parametrize("check", KNOWN)
def test_a_weaker_bench_lets_a_known_fault_live(check):
    verilog = with_fault(decoder_verilog(GEOMETRY), *KNOWN[check])
    faulty = replace(make_mutants(verilog, TOP, 1, SEED), mutants=())
    with pytest.raises(LiftError, match="the decoder itself does not pass"):
        try_mutants(GEOMETRY, faulty, SEED)
    without = Weakening(**{check: True})
    assert try_mutants(GEOMETRY, faulty, SEED, without).verdicts == ()


def test_a_gap_that_does_not_close_is_seen_by_its_rhythm_alone(sample, result, monkeypatch):
    (gap,) = [v for v in result.verdicts if v.finding and v.finding.check == "cycles"]
    assert gap.finding.what.startswith("rhythm")
    (only,) = [p for p in decoder_passes(GEOMETRY, SEED) if p.name == gap.finding.pass_name]
    monkeypatch.setattr(mutation, "decoder_passes", lambda *given: [replace(only, long=False)])
    for attempt in ("same_step", "same"):
        monkeypatch.setattr(Equivalence, attempt, lambda self, mutant: None)
    chosen = replace(sample, mutants=(gap.mutant,))
    assert try_mutants(GEOMETRY, chosen, SEED).killed_by() == {"cycles": 1}
    weaker = try_mutants(GEOMETRY, chosen, SEED, Weakening(cycles=True))
    assert weaker.count("survivor") == 1


def with_fault(verilog, old, new):
    assert verilog.count(old) == 1, old
    return verilog.replace(old, new)
