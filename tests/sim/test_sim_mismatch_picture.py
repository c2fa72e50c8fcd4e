"""The picture of a fault shows the beats that came, those that were due, and which are wrong."""

# amaranth: UnusedElaboratable=no
import re
from dataclasses import replace

import pytest
from amaranth.sim import Simulator

from algo.shipped import load_code
from hw.decoder import Decoder
from sim.amaranth_sim import AmaranthAdapter
from sim.beat_layout import BeatLayout
from sim.bench import exercise
from sim.foreign_passes import foreign_passes
from sim.mismatch_picture import mismatch_picture
from sim.port_map import InputPorts, OutputPorts, PortMap
from sim.trace import Trace, Tracing, load_trace, save_trace
from tests.pictures import check_layout, count, texts

CODE = load_code("LQ-2/1+6")
GROUPS = 17


def layout(lanes):
    return BeatLayout(
        CODE,
        GROUPS,
        PortMap(
            protocol="ready-valid",
            clock="clock",
            input=InputPorts(payload="bits", valid="bits_v", ready="bits_r", carries="words"),
            output=OutputPorts(
                payload="sums", valid="sums_v", ready="sums_r", weights=lanes, weight_bits=12
            ),
        ),
    )


def traced(lanes, broken_at=None, number=1, cycle=None):
    """Pass `number` on our decoder, expecting another weight at a beat; its result and trace."""
    one = foreign_passes(layout(lanes), "icarus", 3)[number]
    stimulus = one.bench.stimulus
    if broken_at is not None:
        expected = list(stimulus.expected)
        expected[broken_at] ^= 8 << 12 * (lanes - 1)
        stimulus = replace(stimulus, expected=expected)
    one = replace(one, bench=replace(one.bench, stimulus=stimulus))
    found = []

    async def testbench(context):
        watched = Tracing(AmaranthAdapter(context, decoder))
        result = await exercise(watched, stimulus)
        at = result.wrong_at if cycle is None else cycle
        found.append((result, watched.around(at, 32, 16)))

    decoder = Decoder(CODE, GROUPS, lanes)
    simulator = Simulator(decoder)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return one, *found[0]


@pytest.mark.parametrize(("lanes", "broken_at"), [(1, 40), (1, 0), (3, 20)])
def test_a_wrong_weight(lanes, broken_at):
    one, result, trace = traced(lanes, broken_at)
    bad = result.first_mismatch
    assert bad.beat + bad.stream * layout(lanes).beats_out == broken_at
    svg = mismatch_picture(layout(lanes), one, result, trace, "theirs")
    check_layout(svg)
    assert count(svg, "theirs: first fault, pass 'stalls: both sides'") == 1
    assert count(svg, f"expected {bad.expected}, got {bad.got}") == 1
    assert count(svg, str(bad.expected)) == 1
    assert count(svg, str(result.wrong_at)) == 1  # the cycle's number
    names = [text for text, left, *_ in texts(svg) if left == 12]
    rows = ["clock", "bits_v", "bits_r", "bits", "sums_v", "sums_r", "sums"]
    rows += ["expected"] if lanes == 1 else [f"weight {lanes - 1} got", "expected"]
    assert [name for name in names if name in rows] == rows
    red = re.findall(r'fill="#f7d4d1".*\n<text.*>(.*)</text>', svg)
    assert red == ([str(bad.got)] if lanes == 1 else ["n6–8", str(bad.got)])


def test_the_trace_is_what_the_bench_saw():
    one, result, trace = traced(1, 40)
    assert trace.first == max(0, result.wrong_at - 32)
    at = result.wrong_at - trace.first
    assert (trace.levels["o_valid"][at], trace.levels["o_ready"][at]) == (1, 1)
    beats = sum(
        bool(valid and ready)
        for valid, ready in zip(
            trace.levels["o_valid"][:at], trace.levels["o_ready"][:at], strict=True
        )
    )
    assert trace.given + beats == 40
    assert trace.levels["o_payload"][at] == one.bench.stimulus.expected[40] ^ 8
    assert {len(levels) for levels in trace.levels.values()} == {32 + 16 + 1}


def test_a_trace_survives_its_file(tmp_path):
    trace = Trace(3, 1, 0, {"i_valid": [0, 1, None]})
    save_trace(trace, tmp_path / "trace.json")
    assert load_trace(tmp_path / "trace.json") == trace


def test_a_broken_protocol_and_unknown_bits():
    one, result, trace = traced(1, cycle=30)
    failure = "cycle 30: output payload changed while it waited for ready (seed 3)"
    result = replace(result, failure=failure, wrong_at=30)
    trace.levels["o_payload"][30 - trace.first] = None
    trace.levels["o_valid"][31 - trace.first] = None
    svg = mismatch_picture(layout(1), one, result, trace, "theirs")
    check_layout(svg)
    assert count(svg, failure) == 1
    assert count(svg, "expected") == 0
    assert "#f3c9c6" in svg


def test_a_surplus_beat_is_wrong():
    one, result, trace = traced(1, 40)
    stimulus = one.bench.stimulus
    fewer = replace(one.bench, stimulus=replace(stimulus, expected=stimulus.expected[:34]))
    svg = mismatch_picture(layout(1), replace(one, bench=fewer), result, trace, "theirs")
    assert svg.count('fill="#f7d4d1"') > 3
