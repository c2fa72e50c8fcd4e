"""A whole layer in integers, against the oracle."""

# amaranth: UnusedElaboratable=no
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.activations import BASE, integer_product, quantise_activations
from algo.code import LiftCode
from algo.errors import LiftError
from algo.packing import transpose_words
from hw.engine import Engine
from hw.engine_beats import activation_beats, row_beats
from hw.engine_geometry import EngineGeometry
from hw.output import Output, Scale
from tests.cases import random_code
from tests.hw.engine_cases import (
    Feed,
    check_layer,
    expected_outputs,
    random_activations,
    random_matrix,
    run_engine,
)

SHAPES = [(3, 2, 0), (2, 1, 6), (12, 5, 9), (1, 1, 0), (5, 2, 4), (16, 8, 0)]
OUTPUTS = [None, Output(8, Scale("out", 6, 14)), Output(16, Scale("out", 3, 1))]


@settings(max_examples=14, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    extra=st.integers(0, 6),
    columns=st.integers(1, 21),
    size=st.sampled_from([(4, 1), (8, 1), (8, 2), (12, 1), (24, 3)]),
    output=st.sampled_from(OUTPUTS),
    stall=st.sampled_from([0.0, 0.0, 0.4]),
    seed=st.integers(0, 2**32),
)
def test_layers_of_odd_shapes(shape, extra, columns, size, output, stall, seed):
    code = random_code(*shape)
    rows = -(-(code.lifted + code.overlap) // code.lifted - 1) * code.group + 1 + extra
    run, geometry = check_layer(
        code, (rows, columns), *size, output, vectors=3, seed=seed, stall=stall
    )
    if not stall:
        assert run.cycles == geometry.cycles(3)


@pytest.mark.parametrize("bits", [0, 1])
def test_extreme_bits_and_activations(bits):
    # every activation 127, then every one -127, all signs alike: the largest sums there are
    taps = np.full((1, 12), 127, np.int8)
    code = LiftCode(3, 1, 9, (3,), taps, 0)
    run, geometry = check_layer(code, (5, 18), 8, bits=bits)
    largest = 127 * 18 * 127 * 12
    assert run.outputs[:5] == [largest if bits else -largest] * 5
    assert run.outputs[5:10] == [-largest if bits else largest] * 5
    assert geometry.result_width == largest.bit_length() + 1


def test_a_code_of_zeros_gives_zeros():
    code = LiftCode(2, 1, 2, (2,), np.zeros((1, 4), np.int8), 0)
    run, _ = check_layer(code, (6, 5), 4)
    assert set(run.outputs) == {0}


def test_sustained_rate():
    code = random_code(2, 1, 6)
    geometry = EngineGeometry(code, 20, 70, 4, 1)
    period = geometry.tiles * geometry.tile_cycles  # longer than the projection takes
    assert period == 18 * (16 + 2 + 40) > geometry.project_cycles
    assert geometry.weights_per_cycle == Fraction(20 * 70, period)
    assert geometry.peak_weights_per_cycle == 2
    run, _ = check_layer(code, (20, 70), 4, vectors=3)
    assert run.cycles == geometry.cycles(3) == geometry.cycles(2) + period


def test_where_the_projection_is_the_longer_part():
    code = random_code(2, 1, 6)
    geometry = EngineGeometry(code, 9, 8, 8)
    assert geometry.tiles * geometry.tile_cycles < geometry.project_cycles
    # besides its rows: one edge to see that a vector is complete
    assert geometry.cycles(9) - geometry.cycles(8) == geometry.project_cycles + 1
    run, _ = check_layer(code, (9, 8), 8, vectors=5)
    assert run.cycles == geometry.cycles(5)


@pytest.mark.parametrize("after", [0, 3, 16, 17, 18, 60, 150, 333, 700])
def test_reset_forgets_all_vectors(after):
    code = random_code(5, 2, 4)
    check_layer(code, (7, 13), 8, 1, OUTPUTS[1], vectors=2, seed=after, break_off=after)


def test_two_digits_are_two_vectors():
    code = random_code(12, 5, 9)
    matrix = random_matrix(code, 12, 10)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 10)).astype(np.float32))
    digits, _ = quantise_activations(x, 2)
    engine = Engine(code, 12, 10, 8)
    vectors = digits.numpy().reshape(4, 10)
    run = run_engine(engine, Feed.of(engine.geometry, matrix, vectors), 4 * 12)
    low, high = np.array(run.outputs).reshape(2, 2, 12)
    assert (low + BASE * high == integer_product(matrix, digits)).all()


def test_a_changed_bit_changes_the_windows_that_read_it():
    code = random_code(12, 5, 9)
    matrix = random_matrix(code, 15, 6)
    activations = random_activations(6, 1)
    matrix.words[3, 0] ^= 1  # bit 0 of column 3: the first weights, and the last, round the end
    engine = Engine(code, 15, 6, 8)
    run = run_engine(engine, Feed.of(engine.geometry, matrix, activations), 15)
    matrix.words[3, 0] ^= 1
    differing = np.flatnonzero(np.array(run.outputs) != expected_outputs(matrix, activations)[0])
    reading = [
        10 * (at // 12) // 2 + i
        for at in (0, 12, 24)
        for i in range(5)
        if code.taps[i, (0 - at) % 36 : (0 - at) % 36 + 1].any()
    ]
    assert differing.tolist() == sorted(reading)
    assert reading[0] == 0
    assert max(reading) >= 10


def test_a_changed_tap_changes_its_rows():
    code = random_code(5, 2, 4)
    taps = code.taps.copy()
    taps[1, 4] += 1
    altered = LiftCode(5, 2, 4, code.shifts, taps, code.exponent)
    matrix, activations = random_matrix(code, 8, 5), random_activations(5, 1)
    engine = Engine(altered, 8, 5, 8)
    run = run_engine(engine, Feed.of(engine.geometry, matrix, activations), 8)
    differing = np.flatnonzero(np.array(run.outputs) != expected_outputs(matrix, activations)[0])
    assert differing.tolist() == [1, 3, 5, 7]


def test_beats_of_whole_words_are_transposed_words():
    code = random_code(3, 2)
    matrix = random_matrix(code, 9, 70)
    geometry = EngineGeometry(code, 9, 70, 32)
    transposed = transpose_words(matrix.words, geometry.bit_rows)  # (bit rows, 3)
    assert row_beats(matrix.words, geometry) == transposed.T.ravel().tolist()


PLAIN = random_code(12, 5, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"code": random_code(2, 1, 6, 2)}, r"LQ-2/1\+6\^2 has 2 parities: .* say LQ-2/1\+6, or a"),
        ({"rows": 4}, r"too narrow for LQ-12/5\+9"),
        ({"columns": 0}, "columns=0: a layer has at least one input"),
        ({"builders": 0}, "builders=0: at least one"),
        ({"lanes": 6}, "lanes=6 with builders=1: .* here of 4, and at most 2048"),
        ({"lanes": 4, "builders": 2}, "lanes=4 with builders=2: .* here of 8"),
        ({"lanes": 2052}, "lanes=2052"),
        ({"output": Output(8)}, "multiplier per row: give a scale of axis out"),
        ({"output": Output(8, Scale("in", 8, 8))}, "multiplier per row: give a scale of axis out"),
        ({"output": Output(8, Scale("out", 31, 20)), "columns": 1 << 16}, "use a narrower multipl"),
    ],
)
def test_bad_layers_are_named(change, message):
    fields = {"code": PLAIN, "rows": 15, "columns": 8, "lanes": 8, **change}
    with pytest.raises(LiftError, match=message):
        Engine(**fields)


def test_bad_inputs_are_named():
    geometry = EngineGeometry(PLAIN, 15, 8, 8)
    words = random_matrix(PLAIN, 15, 8).words
    with pytest.raises(LiftError, match="7 streams for a layer of 8 columns"):
        row_beats(words[:7], geometry)
    words[2, 1] |= 1 << 31
    with pytest.raises(LiftError, match="stream 2 has padding bits set"):
        row_beats(words, geometry)
    x = np.zeros(8, np.int8)
    x[4] = -128
    with pytest.raises(LiftError, match=r"activation -128 is outside -127\.\.127"):
        activation_beats(x, geometry)
    with pytest.raises(LiftError, match=r"shape \(7,\); the layer needs \(8,\)"):
        activation_beats(x[:7], geometry)
