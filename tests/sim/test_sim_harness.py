"""The compiled harness: right decoders of every kind pass, every kind of wrong one is found."""

import re
import subprocess

import numpy as np
import pytest

from algo.decode import decode_words
from algo.errors import LiftError
from hw.architecture import parse_architecture
from hw.decoder import Decoder
from hw.export import export
from hw.geometry import Geometry
from hw.output import Output
from sim.harness import FirstWrong
from sim.harness_build import build_harness
from tests.cases import random_code, random_words

STREAMS = 40  # five turns of stalls

# payloads of 12, 24, 48 and 240 bits out, of 32 and 96 bits in
CASES = {
    "narrow": (random_code(2, 1, 6), 48, 1, "tables:4"),
    "shared": (random_code(3, 1, 9, 3), 37, 4, "shared:3,flow=credit"),
    "block": (random_code(3, 2), 27, 1, "tree,levels=2"),
    "wide": (random_code(17, 5, 8), 21, 4, "tables:4"),
}

FAULTY = """
module faulty(
  input clk, input rst,
  input i__valid, output i__ready, input [{i}:0] i__payload,
  output o__valid, input o__ready, output [{o}:0] o__payload
);
  reg [8*16-1:0] fault;
  initial if (!$value$plusargs("fault=%s", fault)) fault = "none";

  wire iv, ir, ov, rdy;
  wire [{o}:0] op;
  inner inner(.clk(clk), .rst(rst), .i__valid(iv), .i__ready(ir), .i__payload(i__payload),
              .o__valid(ov), .o__ready(rdy), .o__payload(op));

  reg [31:0] given, taken;     // beats given by the decoder inside, beats taken from outside
  reg waited, odd, done;       // the last cycle's beat waited; every other cycle; it has happened
  wire here = given == 20;
  wire open = waited || odd;
  wire empty = taken > 1 && given == 3 * taken && !i__valid;  // 2 beats in, 6 out
  always @(posedge clk) begin
    odd <= !odd;
    waited <= o__valid && !o__ready;
    if (ov && rdy) given <= given + 1;
    if (i__valid && i__ready) taken <= taken + 1;
    if ((fault == "repeat" && here && o__valid && o__ready) || (fault == "lose" && taken == 30)
        || (fault == "withdraw" && waited) || (fault == "surplus" && o__valid && !ov)
        || (fault == "look" && iv && ir && !i__valid) || (fault == "ahead" && o__valid && !ov))
      done <= 1;
    if (fault == "stop" && here) begin $display("enough"); $stop; end
    if (rst) {{given, taken, waited, odd, done}} <= 0;
  end

  assign iv = fault == "deaf" ? 0
            : fault == "lose" && taken == 29 && !done ? 0
            : fault == "look" && taken >= 30 && !done ? 1 : i__valid;
  assign i__ready = fault == "deaf" || (fault == "lose" && taken == 29 && !done) ? 1 : ir;
  assign o__valid = fault == "drop" && here ? 0
                  : fault == "withdraw" && waited && !done ? 0
                  : fault == "stuck" && given >= 20 ? 0
                  : fault == "slow" ? ov && open
                  : fault == "surplus" && given == {total} && !done ? 1
                  : fault == "ahead" && empty && !done ? 1 : ov;
  assign rdy = fault == "drop" && here ? 1
             : fault == "repeat" && here && !done ? 0
             : fault == "stuck" && given >= 20 ? 0
             : fault == "slow" ? o__ready && open : o__ready;
  assign o__payload = fault == "flip" && here ? op ^ (1 << 12 * 3 + 5)
                    : fault == "unstable" && waited ? ~op : op;
endmodule
"""

# what each fault looks like from outside; None: wrong weights alone
FOUND = {
    "drop": "no transfer in 1001 cycles .* 239 output beats received",
    "repeat": "output beat of a stream of which no input beat was taken",
    "lose": "no transfer in 1001 cycles",
    "look": None,
    "withdraw": "output valid fell before ready",
    "unstable": "output payload changed while it waited for ready",
    "stuck": "no transfer in 1001 cycles .* 20 output beats received",
    "surplus": "surplus output beat after the expected 240",
    "ahead": "output beat of a stream of which no input beat was taken",
    "slow": "8 streams at full rate took 100 cycles, not 53",
    "deaf": "no transfer in 1001 cycles .* 80 input beats taken, 0 output beats received",
    "flip": None,
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Where all are built (`test_every_weight` too), so that the runtime is compiled once."""
    return tmp_path_factory.getbasetemp() / "harnesses" / "programs"


def make(case, folder, programs):
    code, groups, lanes, text = CASES[case]
    architecture = parse_architecture(text)
    verilog, _ = export(Decoder(code, groups, lanes, architecture), folder)
    return build_harness(verilog, Geometry(code, groups, lanes, architecture), programs)


@pytest.mark.parametrize("case", CASES)
def test_right_decoders_pass_at_the_predicted_rate(case, tmp_path, programs):
    harness = make(case, tmp_path, programs)
    code, groups = CASES[case][:2]
    words = random_words(code, groups, STREAMS, seed=4)
    words[:2] = random_words(code, groups, 2) * 0  # all zeros is a codeword too
    expected = decode_words(words, groups, code)
    geometry = harness.geometry
    full = harness.run([(words, expected)], seed=1, stall=0)
    assert full.passed, full
    assert full.cycles == geometry.cycles(STREAMS)
    # in pieces, with stalls
    pieces = [(words[a:b], expected[a:b]) for a, b in [(0, 1), (1, 1), (1, 33), (33, STREAMS)]]
    stalled = harness.run(pieces, seed=2, stall=0.4)
    assert stalled.passed, stalled
    assert stalled.waits[1] > 0
    assert stalled.cycles > full.cycles
    assert stalled.full_rate_cycles == full.full_rate_cycles == geometry.cycles(8)
    for found in (full, stalled):
        assert found.streams == STREAMS
        assert found.weights == STREAMS * groups * code.group
        assert found.beats == STREAMS * geometry.beats_out
        assert found.beats_in == STREAMS * geometry.beats_in
    # every place of a stream is compared
    for weight in (0, expected.shape[1] // 2, expected.shape[1] - 1):
        wrong = expected.copy()
        wrong[STREAMS - 1, weight] ^= 1 << 11
        found = harness.run([(words, wrong)], seed=3)
        assert (found.mismatches, found.failure) == (1, None)
        first = FirstWrong(STREAMS - 1, weight, int(wrong[-1, weight]), int(expected[-1, weight]))
        assert found.first_wrong == first
    assert harness.run([]).streams == 0


@pytest.fixture(scope="module")
def faulty(tmp_path_factory, programs):
    """A decoder that is made wrong by a plusarg, its words and what they decode to."""
    folder = tmp_path_factory.mktemp("faulty")
    code, groups, lanes = random_code(5, 4, 6), 12, 2
    geometry = Geometry(code, groups, lanes)
    inner, _ = export(Decoder(code, groups, lanes), folder, "inner")
    shell = FAULTY.format(
        i=geometry.beat_bits - 1, o=geometry.payload_bits - 1, total=STREAMS * geometry.beats_out
    )
    inner.write_text(inner.read_text() + shell)
    harness = build_harness(inner, geometry, programs, "faulty")
    words = random_words(code, groups, STREAMS, seed=6)
    return harness, words, decode_words(words, groups, code)


def test_the_shell_alone_changes_nothing(faulty):
    harness, words, expected = faulty
    assert harness.run([(words, expected)]).passed


@pytest.mark.parametrize("fault", FOUND)
def test_every_fault_is_found(fault, faulty):
    harness, words, expected = faulty
    found = harness.run([(words, expected)], stall=0.8, options=[f"+fault={fault}"])
    assert not found.passed
    if (message := FOUND[fault]) is not None:
        assert re.search(message, found.failure or ""), found
    else:
        assert found.mismatches > 0


def test_one_wrong_bit_is_one_wrong_weight(faulty):
    harness, words, expected = faulty
    found = harness.run([(words, expected)], options=["+fault=flip"])
    # beat 20 is the third of stream 3; its weight 3 is weight 19 of the stream
    right = int(expected[3, 19])
    assert (found.mismatches, found.failure) == (1, None)
    assert found.first_wrong == FirstWrong(3, 19, right, right ^ 32)


def test_a_design_that_never_answers_is_not_fed_for_ever(faulty):
    harness, words, expected = faulty
    fed = 0

    def pieces():
        nonlocal fed
        while True:
            fed += len(words)
            yield words, expected

    found = harness.run(pieces(), options=["+fault=deaf"])
    assert found.failure == "no output for 4096 streams"
    assert 4096 < fed < 8192


def test_what_does_not_fit_is_refused(faulty):
    harness, words, expected = faulty
    with pytest.raises(LiftError, match=r"words are uint32 of shape \(40, 1\)"):
        harness.run([(words[:, 1:], expected)])
    with pytest.raises(LiftError, match=r"weights int32 of shape \(40, 48\); 12 groups of LQ-5/4"):
        harness.run([(words, expected.astype(np.int32))])
    with pytest.raises(LiftError, match="stall=1: a probability"):
        harness.run([(words, expected)], stall=1)


def test_a_broken_pipe_of_streams_is_no_result(faulty):
    harness, words, _ = faulty
    done = subprocess.run(
        [harness.program, "0", "0", "1000", "64"], input=words.tobytes()[:11],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert b"it ends within a stream" in done.stderr

    def pieces():
        yield words[:3], decode_words(words[:3], 12, harness.geometry.code)
        raise RuntimeError("the oracle failed")

    with pytest.raises(RuntimeError, match="the oracle failed"):
        harness.run(pieces())


def test_a_program_that_fails_is_an_error(faulty):
    harness, words, expected = faulty
    with pytest.raises(LiftError, match=r"(?s)harness-\w+ ended with status 1; it said: .*enough"):
        harness.run([(words, expected)], options=["+fault=stop"])


def test_a_failed_build_quotes_its_log(tmp_path, programs):
    code = random_code(2, 1, 6)
    geometry = Geometry(code, 48, 1)
    source = tmp_path / "broken.v"
    source.write_text("module broken(input clk); assign nonsense = ; endmodule\n")
    with pytest.raises(LiftError, match=r"(?s)verilator failed; the log .* ends:.*syntax error"):
        build_harness(source, geometry, programs, "broken")
    source.write_text("module broken(input clk); endmodule\n")
    with pytest.raises(LiftError, match=r"(?s)g\+\+ failed; the log .* ends:.*i___05Fvalid"):
        build_harness(source, geometry, programs, "broken")


def test_an_earlier_build_is_found(tmp_path, programs, monkeypatch):
    first = make("narrow", tmp_path / "a", programs)
    monkeypatch.setattr("sim.harness_build._call", None)  # compiling would fail
    again = make("narrow", tmp_path / "b", programs)
    assert again == first


def test_a_decoder_of_other_outputs_is_refused(tmp_path):
    geometry = Geometry(random_code(2, 1, 6), 48, 1, output=Output(8))
    with pytest.raises(LiftError, match="a harness compares plain sums"):
        build_harness(tmp_path / "any.v", geometry, tmp_path)
