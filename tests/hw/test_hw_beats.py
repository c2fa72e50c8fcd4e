import numpy as np
import pytest

from algo.errors import LiftError
from hw.beats import input_beats, lane_mask, output_beats
from hw.geometry import Geometry
from tests.cases import random_code

GEOMETRY = Geometry(random_code(24, 2), groups=5, lanes=2)  # 2 words a beat, 4 words a stream


def test_input_beats_put_the_first_word_low():
    words = np.array([[1, 2, 3, 4], [5, 6, 7, 0x80000000]], np.uint32)
    assert input_beats(words, GEOMETRY) == [
        2 << 32 | 1,
        4 << 32 | 3,
        6 << 32 | 5,
        0x80000000 << 32 | 7,
    ]


def test_output_beats_are_twelve_bits_signed():
    accs = np.array([[1, -1, 2047, -2047, 0, 0, 0, 0, 5, -6]], np.int16)
    assert output_beats(accs, GEOMETRY) == [0x801_7FF_FFF_001, 0, 0xFFA_005]


def test_lane_mask_covers_the_groups_there_are():
    assert [lane_mask(beat, GEOMETRY).bit_length() for beat in range(3)] == [48, 48, 24]


def test_wrong_shapes_are_named():
    with pytest.raises(LiftError, match=r"int64 of shape \(2, 4\); 5 groups of LQ-24/2 need"):
        input_beats(np.zeros((2, 4), np.int64), GEOMETRY)
    with pytest.raises(LiftError, match=r"shape \(1, 9\); 5 groups of LQ-24/2 need \(streams, 10"):
        output_beats(np.zeros((1, 9), np.int16), GEOMETRY)
