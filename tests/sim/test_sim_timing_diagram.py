"""Timing diagrams show what a simulation did, and nothing where it is wrong."""

# amaranth: UnusedElaboratable=no
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.decode import decode_words
from algo.errors import LiftError
from hw.capacity import Capacity
from hw.decoder import Decoder
from hw.output import SUMS, Output, Scale
from sim.record import STALL, check_output, record
from sim.timing_diagram import decoder_timing, fitted, loadable_timing
from tests.architectures import ARCHITECTURES
from tests.cases import SHAPES, least_groups, random_code
from tests.pictures import check_layout, count, texts


def stated_latency(svg):
    (text,) = [text for text, *_ in texts(svg) if text.startswith("latency")]
    return int(text.split()[1])


@settings(max_examples=15)
@given(
    shape=st.sampled_from([s for s in SHAPES if s[0] <= 16]),
    architecture=st.sampled_from(ARCHITECTURES),
    lanes=st.integers(1, 3),
    extra=st.integers(0, 40),
    output=st.sampled_from([SUMS, Output(8), Output(8, Scale("in", 9, 9))]),
    mark_last=st.booleans(),
)
def test_decoders_of_every_shape(shape, architecture, lanes, extra, output, mark_last):
    code = random_code(*shape)
    groups = max(least_groups(code), lanes) + extra
    decoder = Decoder(code, groups, lanes, architecture, output, mark_last)
    svg = decoder_timing(decoder)
    check_layout(svg)
    assert stated_latency(svg) == decoder.latency
    assert count(svg, "output stalls") >= 1
    names = {text for text, *_ in texts(svg)}
    assert names >= {"clk", "i__valid", "i__ready", "i__payload", "o__valid", "o__ready"}
    assert ("last" in names, "scale__ready" in names) == (mark_last, output.scale is not None)


def test_the_streams_end_is_shown():
    svg = decoder_timing(Decoder(random_code(12, 5, 9), 60))
    assert count(svg, "stream 1 follows stream 0") == 1
    assert count(svg, "g0") == 2  # of both streams
    assert (count(svg, "g59"), count(svg, "w22")) == (1, 1)


def test_multipliers_of_every_beat():
    output = Output(8, Scale("out", 16, 20))
    svg = decoder_timing(Decoder(random_code(5, 2, 4), 9, 2, output=output))
    check_layout(svg)
    assert count(svg, "m0") >= 2


def test_a_loadable_decoder_with_its_bus():
    code, capacity = random_code(5, 2, 4, 2), Capacity(6, 3, 8, 2)
    svg = loadable_timing(capacity, code, 30)
    check_layout(svg)
    assert stated_latency(svg) == capacity.latency(code, 30)
    address, value = capacity.writes(code, 30)[0]
    assert count(svg, f"{address:x}={value:x}") == 1
    address, value = capacity.writes(code, 30)[-1]
    assert count(svg, f"{address:x}={value:x}") >= 1


def test_a_long_stream_is_not_simulated_to_its_end():
    svg = decoder_timing(Decoder(random_code(2, 1, 6), 20_000, 1))
    assert count(svg, "stream 1 follows stream 0") == 0
    assert count(svg, "output stalls") == 1


def test_a_recording_holds_the_cycles_as_they_are():
    decoder = Decoder(random_code(16, 8), 4)
    seen = record(decoder, {"i": [0, 5, 9]}, 20, 1)
    assert len(seen.levels["o__valid"]) == 20
    assert seen.levels["i__valid"][:2] == (0, 1)
    given = seen.moved("o")
    assert given[0] - seen.moved("i")[0] == decoder.latency
    assert given[1] - given[0] == 1 + STALL
    waited = [n for n, ready in enumerate(seen.levels["o__ready"]) if not ready]
    assert waited == list(range(given[0] + 1, given[1]))
    assert [seen.beats["o"][n] for n in waited] == [1] * STALL


@pytest.mark.parametrize("beat", [0, 3])
def test_a_wrong_beat_gets_no_picture(beat):
    seen = record(Decoder(random_code(16, 8), 4), {"i": [0, 5]}, 20, 1)
    # what the decoder gives, taken for right
    right = [seen.levels["o__payload"][cycle] for cycle in seen.moved("o")]
    masks = [(1 << 96) - 1] * 4
    check_output(seen, right, masks)
    wrong = list(right)
    wrong[beat] ^= 1 << 40
    with pytest.raises(LiftError, match=f"output beat {beat} is not what the reference gives"):
        check_output(seen, wrong, masks)
    check_output(seen, wrong, [mask & ~(1 << 40) for mask in masks])
    with pytest.raises(LiftError, match="output beat 3 is not"):
        check_output(seen, right[:3], masks)


def test_the_decoder_itself_is_compared(monkeypatch):
    def off_by_two(words, groups, code):
        return decode_words(words, groups, code) + 2

    monkeypatch.setattr("sim.timing_diagram.decode_words", off_by_two)
    with pytest.raises(LiftError, match="output beat 0 is not what the reference gives"):
        decoder_timing(Decoder(random_code(16, 8), 4))


@pytest.mark.parametrize(
    ("around", "fit", "runs"),
    [
        ([range(3)], 5, (range(5),)),
        ([range(-2, 3)], 2, (range(3),)),
        ([range(3), range(10, 12)], 9, (range(5), range(10, 13))),
        ([range(3), range(5, 7)], 3, (range(7),)),
        ([range(3), range(10, 12)], 99, (range(20),)),
        ([range(18, 30)], 99, (range(18, 20),)),
    ],
)
def test_cycles_are_chosen_to_fit(around, fit, runs):
    assert fitted(around, fit, 20) == runs


SCRIPT = """
from tests.cases import random_code
from hw.decoder import Decoder
from sim.timing_diagram import decoder_timing
print(decoder_timing(Decoder(random_code(12, 5, 9, 2), 9, 2)), end="")
"""


def test_bytes_do_not_depend_on_the_process():
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "2" else "2"
    elsewhere = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path, "PYTHONUTF8": "1"},
        capture_output=True,
        check=True,
    ).stdout
    assert elsewhere.decode() == decoder_timing(Decoder(random_code(12, 5, 9, 2), 9, 2))
