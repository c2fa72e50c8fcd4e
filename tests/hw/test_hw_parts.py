"""Gearbox, window and projection each on its own, against plain integers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.code import LiftCode, block_shifts
from algo.decode import decode_bits
from hw.beats import lane_mask, output_beats
from hw.gearbox import Gearbox
from hw.geometry import Geometry
from hw.projections import projection_of
from hw.terms import projection_stages
from hw.window import Window
from sim.amaranth_sim import run_amaranth
from sim.stimulus import Stimulus
from tests.architectures import ARCHITECTURES
from tests.cases import SHAPES, least_groups, random_code

STREAMS = 5
STALLS = st.sampled_from([(0.0, 0.0), (0.3, 0.0), (0.0, 0.3), (0.4, 0.6)])


each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)


@st.composite
def geometries(draw, shapes=tuple(SHAPES)):
    code = random_code(*draw(st.sampled_from(shapes)))
    groups = least_groups(code) + draw(st.integers(0, 12))
    return Geometry(code, groups, draw(st.integers(1, min(groups, 5))))


def cut(value, bits, sizes):
    """`value` in pieces of the given sizes, lowest first."""
    for size in sizes:
        yield value & (1 << size) - 1
        value >>= size


def chunk_sizes(geometry):
    return [geometry.chunk_bits] * (geometry.beats_out - 1) + [geometry.last_chunk_bits]


def check(component, inputs, expected, masks, seed, stalls, full_rate):
    """Run; without stalls the number of cycles must be `full_rate`, exactly."""
    stimulus = Stimulus(inputs, expected, masks, field=1, group=1, seed=seed, stalls=stalls)
    result = run_amaranth(component, stimulus)
    assert result.passed, result.summary()
    if stalls == (0.0, 0.0):
        assert result.cycles == full_rate, result.summary()


@settings(max_examples=25, deadline=None)
@given(geometries(), st.integers(0, 2**32), STALLS)
def test_gearbox_recuts_without_bubbles(geometry, seed, stalls):
    rng = np.random.default_rng(seed)
    inputs, expected = [], []
    for _ in range(STREAMS):
        # spare bits of the last beat are random: they must be ignored
        sent = geometry.beats_in * geometry.beat_bits
        value = int.from_bytes(rng.bytes(sent // 8), "little")
        inputs += cut(value, sent, [geometry.beat_bits] * geometry.beats_in)
        expected += cut(value, geometry.stream_bits, chunk_sizes(geometry))
    masks = [(1 << geometry.chunk_bits) - 1] * geometry.beats_out
    cycles = 1 + STREAMS * geometry.beats_out
    check(Gearbox(geometry), inputs, expected, masks, seed, stalls, cycles)


@settings(max_examples=25, deadline=None)
@given(geometries([shape for shape in SHAPES if shape[2]]), st.integers(0, 2**32), STALLS)
def test_window_wraps_round_without_bubbles(geometry, seed, stalls):
    rng = np.random.default_rng(seed)
    bits = geometry.stream_bits
    inputs, expected = [], []
    for _ in range(STREAMS):
        value = int.from_bytes(rng.bytes(bits // 8 + 1), "little") & (1 << bits) - 1
        inputs += cut(value, bits, chunk_sizes(geometry))
        ring = value | value << bits | value << 2 * bits
        whole = (1 << geometry.window_bits) - 1
        expected += [ring >> k * geometry.chunk_bits & whole for k in range(geometry.beats_out)]
    masks = [(1 << geometry.window_bits) - 1] * (geometry.beats_out - 1)
    masks.append((1 << geometry.last_chunk_bits + geometry.code.overlap) - 1)
    cycles = min(geometry.lookahead + 1, geometry.beats_out) + STREAMS * geometry.beats_out
    check(Window(geometry), inputs, expected, masks, seed, stalls, cycles)


def project(geometry, windows):
    """Expected payloads, by decoding every lane's window as the start of a stream of its own."""
    code = geometry.code
    span, groups = code.lifted + code.overlap, least_groups(code) + 1
    rows = np.zeros((len(windows) * geometry.lanes, groups * code.lifted), np.uint8)
    for n, window in enumerate(windows):
        for lane in range(geometry.lanes):
            part = window >> lane * code.lifted
            rows[n * geometry.lanes + lane, :span] = [part >> j & 1 for j in range(span)]
    accs = decode_bits(rows, code)[:, : code.group]
    single = Geometry(code, geometry.lanes * least_groups(code), geometry.lanes)
    padded = np.zeros((len(windows), single.groups * code.group), np.int16)
    padded[:, : geometry.lanes * code.group] = accs.reshape(len(windows), -1)
    return output_beats(padded, single)[:: single.beats_out]


@each_architecture
@settings(max_examples=5, deadline=None)
@given(geometries(), st.integers(0, 2**32), STALLS)
def test_projection_matches_the_oracle(architecture, geometry, seed, stalls):
    geometry = replace(geometry, architecture=architecture)
    rng = np.random.default_rng(seed)
    width = geometry.window_bits
    windows = [0, (1 << width) - 1]
    windows += [int.from_bytes(rng.bytes(width // 8 + 1), "little") >> -width % 8 for _ in "x" * 20]
    windows = [window & (1 << width) - 1 for window in windows]
    latency = projection_stages(geometry.code, architecture) + geometry.queued
    cycles = latency + 1 + (len(windows) - 1) * architecture.cycles
    masks = [lane_mask(0, geometry)]
    expected = project(geometry, windows)
    check(projection_of(geometry), windows, expected, masks, seed, stalls, cycles)


@pytest.mark.parametrize(
    "rows",
    [
        [[0, 0, 0], [0, 0, 0]],  # nothing to add at all
        [[-128] * 15 + [127], [127] * 16],  # the largest sums there are, near +-2047
        [[-128] * 15 + [-127], [1] + [0] * 15],
    ],
)
@each_architecture
def test_projection_extremes(architecture, rows):
    taps = np.array(rows, np.int8)
    code = LiftCode(taps.shape[1], 2, 0, block_shifts(taps.shape[1], 2), taps, 0)
    geometry = Geometry(code, 1, 1, architecture)
    ones = (1 << code.lifted) - 1
    windows = [0, ones, 1, ones >> 1, ones ^ 1 << code.lifted - 1, 5]
    masks = [lane_mask(0, geometry)]
    stimulus = Stimulus(windows, project(geometry, windows), masks, field=12, group=2)
    result = run_amaranth(projection_of(geometry), stimulus)
    assert result.passed, result.summary()
