"""Which bits go into which beat, which weights come out of which."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.decode import decode_words
from algo.errors import LiftError
from algo.packing import unpack_bits
from sim.beat_layout import BeatLayout
from sim.port_map import PortMap
from tests.cases import least_groups, random_code, random_words

SHAPES = [(16, 8, 0, 0), (3, 2, 0, 0), (12, 5, 9, 2), (2, 1, 10, 0)]


def port_map(
    carries="groups", per_beat=1, weights=8, weight_bits=12, protocol="ready-valid", **more
):
    sides = {"valid": "v", "ready": "r"} if protocol == "ready-valid" else {}
    return PortMap(
        protocol=protocol,
        clock="c",
        input={"payload": "i", "carries": carries, "per_beat": per_beat, **sides},
        output={"payload": "o", "weights": weights, "weight_bits": weight_bits, **sides},
        **more,
    )


@given(
    st.sampled_from(SHAPES), st.integers(0, 9), st.integers(1, 3), st.integers(1, 9),
    st.sampled_from(["words", "groups", "windows"]), st.integers(12, 40), st.integers(0, 99),
)  # fmt: skip
def test_beats_hold_what_the_map_says(shape, extra, per_beat, weights, carries, width, seed):
    code = random_code(*shape)
    groups = least_groups(code) + extra
    layout = BeatLayout(code, groups, port_map(carries, per_beat, weights, width))
    words = random_words(code, groups, 2, seed)
    bits = unpack_bits(words, groups * code.lifted).tolist()

    inputs = iter(layout.inputs(words))
    for row in bits:
        taken = 0
        for _ in range(layout.beats_in):
            payload = next(inputs)
            own = layout.input_bits - (code.overlap if carries == "windows" else 0)
            fresh = row[taken : taken + own]
            want = fresh
            if carries == "windows":  # what follows the beat's last group, round the end
                end = taken + len(fresh)
                want = fresh + [row[(end + j) % len(row)] for j in range(code.overlap)]
            assert payload == sum(bit << j for j, bit in enumerate(want))
            taken += len(fresh)
        assert taken == len(row)
    assert next(inputs, None) is None

    expected = decode_words(words, groups, code)
    masks = layout.masks()
    got = []
    for n, payload in enumerate(layout.outputs(expected)):
        mask = masks[n % layout.beats_out]
        assert payload & ~mask == 0
        for place in range(mask.bit_length() // width):
            value = payload >> place * width & (1 << width) - 1
            got.append(value - (value >> width - 1 << width))
    assert got == expected.reshape(-1).tolist()


def test_wide_weights_are_sign_extended():
    code = random_code(3, 2)
    layout = BeatLayout(code, 1, port_map(weights=2, weight_bits=100))
    (payload,) = layout.outputs(np.array([[-1, 5]], np.int16))
    assert payload == (1 << 100) - 1 | 5 << 100


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight_bits": 10}, "output.weight_bits = 10 is too narrow: .* LQ-16/8 takes 11 bits"),
        (
            {"protocol": "fixed-latency", "latency": 1, "weights": 4},
            "5 beats of input.per_beat = 1 groups and 10 beats of output.weights = 4",
        ),
    ],
)
def test_maps_that_do_not_fit_the_code(fields, message):
    code = random_code(16, 8, seed=3)
    assert np.abs(code.taps.astype(int)).sum(axis=1).max() == 629
    with pytest.raises(LiftError, match=message):
        BeatLayout(code, 5, port_map(**fields))


def test_a_sliding_fixed_latency_decoder_needs_a_reset():
    code = random_code(2, 1, 6)
    fields = {"protocol": "fixed-latency", "latency": 3, "weights": 1}
    with pytest.raises(
        LiftError, match=r"reset is missing: .* LQ-2/1.6 cannot know a stream's fir"
    ):
        BeatLayout(code, 8, port_map(**fields))
    assert BeatLayout(code, 8, port_map("windows", **fields)).input_bits == 8
