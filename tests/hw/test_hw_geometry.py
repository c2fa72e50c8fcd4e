# amaranth: UnusedElaboratable=no
import pytest

from algo.errors import LiftError
from hw.decoder import Decoder
from hw.geometry import Geometry
from tests.cases import random_code


def test_sizes_by_hand():
    geometry = Geometry(random_code(12, 5, 9), groups=7, lanes=2)
    assert geometry.stream_bits == 84
    assert (geometry.beat_words, geometry.beat_bits) == (1, 32)
    assert (geometry.beats_in, geometry.last_beat_bits) == (3, 20)
    assert (geometry.beats_out, geometry.last_chunk_bits) == (4, 12)
    assert geometry.window_bits == 33
    assert geometry.lookahead == 1
    assert geometry.payload_bits == 2 * 5 * 12
    # gearbox 1, two chunks for the window, tables and two levels of adders (12 taps, 3 tables)
    assert geometry.latency == 1 + 2 + 3
    assert geometry.cycles(10) == 6 + 40


@pytest.mark.parametrize(
    ("shape", "groups", "lanes", "unit"),
    [
        ((12, 5, 9), 7, 2, 4),  # 32, 24, 20 and 12 bits
        ((12, 5, 9), 116, 8, 16),  # 96, 96, 48, 48: no power of two
        ((2, 1, 6), 576, 8, 16),
        ((2, 1, 6), 580, 8, 8),
        ((2, 1, 6), 32, 16, 32),
        ((5, 2, 4), 9, 1, 1),
    ],
)
def test_words_are_shifted_by_what_divides_all_beats(shape, groups, lanes, unit):
    assert Geometry(random_code(*shape), groups, lanes).unit_bits == unit


def test_decoder_reports_its_geometry():
    geometry = Geometry(random_code(24, 10), groups=9, lanes=2)
    decoder = Decoder(geometry.code, 9, 2)
    assert decoder.latency == geometry.latency
    assert (decoder.beats_in, decoder.beats_out) == (geometry.beats_in, geometry.beats_out)
    assert decoder.cycles(3) == geometry.cycles(3)
    assert len(decoder.i.payload) == 64
    assert len(decoder.o.payload) == 240


@pytest.mark.parametrize(
    ("groups", "lanes", "message"),
    [
        (8, 0, "lanes=0: a beat decodes at least one group; use lanes=1"),
        (8, 9, "lanes=9 is more than groups=8: .* use at most lanes=8"),
        (0, 1, r"groups=0 is too few for LQ-2/1\+10: its window of 12 bits .* groups=6"),
        (5, 1, r"groups=5 is too few for LQ-2/1\+10"),
    ],
)
def test_constructor_rejects(groups, lanes, message):
    code = random_code(2, 1, 10)
    with pytest.raises(LiftError, match=message):
        Decoder(code, groups, lanes)
    with pytest.raises(LiftError, match=message):
        Geometry(code, groups, lanes)
