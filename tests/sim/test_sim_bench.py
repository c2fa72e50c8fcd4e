"""The bench catches designs that are wrong; every fault here is one a design could have."""

import json
from collections.abc import Generator

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from algo.code import LiftCode
from algo.decode import decode_words
from algo.errors import LiftError
from hw.decoder import Decoder
from hw.geometry import Geometry
from sim.amaranth_sim import run_amaranth
from sim.bench import UnknownValueError, exercise
from sim.result import BenchResult, Mismatch
from sim.stimulus import Stimulus, decoder_stimulus, load_stimulus, save_stimulus
from sim.verify import simulate_decoder
from tests.cases import random_code, random_words


class Faulty(wiring.Component):
    """A register stage between two streams of 12 bits that fails at its fourth beat."""

    def __init__(self, fault):
        self.fault = fault
        super().__init__(
            {"i": In(stream.Signature(unsigned(12))), "o": Out(stream.Signature(unsigned(12)))}
        )

    def elaborate(self, platform):
        m = Module()
        full, count = Signal(), Signal(8)
        held = Signal(12)
        repeated, waited = Signal(), Signal()
        taken, given = self.i.valid & self.i.ready, self.o.valid & self.o.ready
        at_fault = count == 4
        m.d.comb += [self.i.ready.eq(~full), self.o.valid.eq(full), self.o.payload.eq(held)]
        m.d.sync += waited.eq(self.o.valid & ~self.o.ready)
        with m.If(taken):
            m.d.sync += [full.eq(1), held.eq(self.i.payload), count.eq(count + 1)]
        with m.If(given):
            m.d.sync += full.eq(0)
        match self.fault:
            case "drops":
                with m.If(at_fault & full):
                    m.d.sync += full.eq(0)
                    m.d.comb += self.o.valid.eq(0)
            case "duplicates":
                with m.If(given & at_fault & ~repeated):
                    m.d.sync += [full.eq(1), repeated.eq(1)]
            case "valid falls":
                m.d.comb += self.o.valid.eq(full & ~(at_fault & waited))
            case "payload changes":
                m.d.comb += self.o.payload.eq(Mux(at_fault & waited, ~held, held))
            case "stuck":
                m.d.comb += self.i.ready.eq(~full & ~at_fault)
            case "surplus":
                m.d.comb += self.o.valid.eq(full | (count == 8))
        return m


def run_faulty(fault, stalls=(0.0, 0.9), seed=7):
    values = [100 + n for n in range(8)]
    stimulus = Stimulus(values, values, [0xFFF], field=12, group=1, seed=seed, stalls=stalls)
    return run_amaranth(Faulty(fault), stimulus)


def test_the_stage_without_a_fault_passes():
    result = run_faulty(None)
    assert result.passed, result.summary()
    assert result.beats == result.weights == 8


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        ("drops", "no transfer in 1001 cycles .* 8 of 8 input beats taken, 7 of 8 output beats"),
        ("duplicates", "surplus output beat after the expected 8"),
        ("valid falls", "output valid fell before ready"),
        ("payload changes", "output payload changed while it waited for ready"),
        ("stuck", "no transfer in 1001 cycles .* 4 of 8 input beats taken, 4 of 8 output beats"),
        ("surplus", "surplus output beat after the expected 8"),
    ],
)
def test_protocol_faults_are_caught(fault, failure):
    result = run_faulty(fault)
    assert not result.passed
    assert failure.split(" .* ")[0] in result.failure
    assert failure.split(" .* ")[-1] in result.failure
    assert "seed 7" in result.summary()


@pytest.mark.parametrize(
    ("fault", "at", "expected", "got"), [("drops", 3, 103, 104), ("duplicates", 4, 104, 103)]
)
def test_dropped_and_repeated_beats_are_mismatches_too(fault, at, expected, got):
    result = run_faulty(fault)
    assert result.first_mismatch == Mismatch(at, 0, 0, 0, expected, got)
    assert result.mismatches == 4


@pytest.mark.parametrize(("lanes", "row", "column"), [(1, 0, 0), (2, 3, 11), (3, 4, 17)])
def test_one_changed_tap_is_found_where_it_is(lanes, row, column):
    code = random_code(12, 5, 9)
    taps = code.taps.copy()
    taps[row, column] += 1
    altered = LiftCode(12, 5, 9, code.shifts, taps, code.exponent)
    words = random_words(code, 8, 3)
    good, bad = decode_words(words, 8, code), decode_words(words, 8, altered)
    result = simulate_decoder(
        altered, words, 8, lanes, simulator="amaranth", expected=good, stalls=(0.2, 0.2), seed=11
    )
    assert not result.passed
    assert result.failure is None
    assert result.mismatches == int((good != bad).sum()) == 3 * 8
    first = int(np.argmax(good[0] != bad[0]))
    group, weight = divmod(first, 5)
    assert result.first_mismatch == Mismatch(
        0, group // lanes, group % lanes, weight, int(good[0, first]), int(bad[0, first])
    )
    assert "seed 11" in result.summary()


def test_a_mismatch_in_a_later_stream_is_placed():
    code = random_code(12, 5, 9)
    words = random_words(code, 7, 4)
    expected = decode_words(words, 7, code)
    expected[2, 6 * 5 + 3] ^= 2  # the last group: lane 0 of the fourth beat of two lanes
    result = simulate_decoder(code, words, 7, 2, simulator="amaranth", expected=expected)
    assert result.mismatches == 1
    got = int(expected[2, 33]) ^ 2
    assert result.first_mismatch == Mismatch(2, 3, 0, 3, int(expected[2, 33]), got)


def test_a_seed_repeats_a_run_and_another_does_not():
    code = random_code(2, 1, 6)
    words = random_words(code, 30, 3)
    cycles = [
        simulate_decoder(code, words, 30, simulator="amaranth", seed=seed).cycles
        for seed in (1, 1, 2)
    ]
    assert cycles[0] == cycles[1] != cycles[2]


class Unknown:
    """A design whose output is X."""

    simulator = "none"

    class Now:
        def __await__(self) -> Generator[None, None, None]:
            return
            yield

    def set(self, port, value):
        pass

    def get(self, port):
        if port == "o_payload":
            raise UnknownValueError("o_payload reads XXXX")
        return 1

    def settle(self):
        return self.Now()

    edge = settle


def test_unknown_bits_are_a_failure():
    coroutine = exercise(Unknown(), Stimulus([1], [1], [1], field=1, group=1))
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    assert ended.value.value.failure == "cycle 0: o_payload reads XXXX"


def test_results_and_stimuli_survive_their_files(tmp_path):
    result = run_faulty("duplicates")
    assert BenchResult.from_fields(json.loads(result.to_json())) == result
    geometry = Geometry(random_code(12, 5, 9), 7, 2)
    words = random_words(geometry.code, 7, 4)
    stimulus = decoder_stimulus(geometry, words, seed=2**40, stalls=(0.1, 0.2))
    save_stimulus(stimulus, tmp_path / "vectors.npz")
    assert load_stimulus(tmp_path / "vectors.npz") == stimulus


def test_bad_arguments_are_named():
    code = random_code(2, 1, 6)
    words = random_words(code, 30, 3)
    with pytest.raises(LiftError, match=r"stalls=\(1\.0, 0\): both are probabilities"):
        simulate_decoder(code, words, 30, simulator="amaranth", stalls=(1.0, 0))
    with pytest.raises(LiftError, match="3 streams of words but 2 of expected weights"):
        simulate_decoder(code, words, 30, expected=decode_words(words[:2], 30, code))
    with pytest.raises(LiftError, match="simulator 'vcs' is unknown; use one of verilator"):
        simulate_decoder(code, words, 30, simulator="vcs")
    with pytest.raises(LiftError, match="waves=True needs a workdir"):
        simulate_decoder(code, words, 30, waves=True)
    with pytest.raises(LiftError, match="3 expected beats are not whole streams of 2 beats"):
        Stimulus([1], [1, 2, 3], [1, 1], field=1, group=1)


def test_amaranth_waves(tmp_path):
    code = random_code(3, 2)
    result = simulate_decoder(
        code, random_words(code, 5, 2), 5, simulator="amaranth", waves=True, workdir=tmp_path
    )
    assert result.passed, result.summary()
    assert (tmp_path / "run.vcd").read_text().startswith("$")
    assert result.waves == str(tmp_path / "run.vcd")


def test_a_decoder_that_never_sees_input_is_idle():
    geometry = Geometry(random_code(3, 2), 5)
    nothing = decoder_stimulus(geometry, np.zeros((0, geometry.stream_words), np.uint32))
    result = run_amaranth(Decoder(geometry.code, 5), nothing)
    assert result.passed
    assert (result.cycles, result.latency, result.beats) == (0, None, 0)


@pytest.mark.parametrize("stalls", [(0.5, 0.0), (0.0, 0.5)])
def test_stalls_on_either_side_cost_cycles(stalls):
    code = random_code(32, 16)  # a word in for every beat out, so neither side has slack
    words = random_words(code, 8, 20)
    free = simulate_decoder(code, words, 8, simulator="amaranth", seed=3, stalls=(0.0, 0.0))
    held = simulate_decoder(code, words, 8, simulator="amaranth", seed=3, stalls=stalls)
    assert free.passed, free.summary()
    assert held.passed, held.summary()
    assert held.cycles > 1.3 * free.cycles
