from random import Random

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.packing import pack_bits
from hw.decoder import Decoder
from hw.geometry import Geometry
from sim.amaranth_sim import AmaranthAdapter, run_amaranth
from sim.bench import exercise
from sim.stimulus import decoder_stimulus
from tests.architectures import ARCHITECTURES
from tests.cases import SHAPES, least_groups, random_code, random_words

STREAMS = 4

each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)


@each_architecture
@settings(max_examples=6, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    extra=st.integers(0, 20),
    lanes=st.sampled_from([1, 2, 3, 5]),
    seed=st.integers(0, 2**32),
    stalls=st.sampled_from([(0.0, 0.0), (0.5, 0.1), (0.1, 0.5)]),
)
def test_decoder_matches_the_oracle(architecture, shape, extra, lanes, seed, stalls):
    code = random_code(*shape, seed=seed % 100)
    geometry = Geometry(code, max(least_groups(code) + extra, lanes), lanes, architecture)
    words = random_words(code, geometry.groups, STREAMS, seed)
    result = run_amaranth(
        Decoder(code, geometry.groups, lanes, architecture),
        decoder_stimulus(geometry, words, seed=seed, stalls=stalls),
    )
    assert result.passed, result.summary()
    assert result.weights == STREAMS * geometry.groups * code.group
    if stalls == (0.0, 0.0):
        assert result.latency == geometry.latency, result.summary()
        assert result.cycles == geometry.cycles(STREAMS), result.summary()


@pytest.mark.parametrize("groups", [8, 9])  # 96 and 108 bits: whole words and not
@pytest.mark.parametrize("lanes", [1, 3])
@each_architecture
def test_predictions_hold_in_words_and_not(architecture, groups, lanes):
    code = random_code(12, 5, 9)
    geometry = Geometry(code, groups, lanes, architecture)
    words = random_words(code, groups, 7)
    decoder = Decoder(code, groups, lanes, architecture)
    result = run_amaranth(decoder, decoder_stimulus(geometry, words))
    assert result.passed, result.summary()
    assert (result.latency, result.cycles) == (geometry.latency, geometry.cycles(7))


@pytest.mark.parametrize("shape", [(24, 10, 0, 0), (12, 5, 9, 0), (2, 1, 10, 4)])
@each_architecture
def test_extreme_words(architecture, shape):
    code = random_code(*shape)
    groups = least_groups(code) + 2
    bits = np.zeros((4, groups * code.lifted), np.uint8)
    bits[1] = 1
    bits[2, ::2] = 1
    bits[3, -1] = 1  # only the bit just before the wrap
    geometry = Geometry(code, groups, 2, architecture)
    decoder = Decoder(code, groups, 2, architecture)
    result = run_amaranth(decoder, decoder_stimulus(geometry, pack_bits(bits)))
    assert result.passed, result.summary()


def test_spare_bits_of_the_last_beat_are_ignored():
    code = random_code(12, 5, 9)
    geometry = Geometry(code, 7, 3)
    stimulus = decoder_stimulus(geometry, random_words(code, 7, 6))
    spare = (1 << geometry.beat_bits) - (1 << geometry.last_beat_bits)
    assert spare
    for at in range(geometry.beats_in - 1, len(stimulus.inputs), geometry.beats_in):
        stimulus.inputs[at] |= spare
    result = run_amaranth(Decoder(code, 7, 3), stimulus)
    assert result.passed, result.summary()


@pytest.mark.parametrize("before", [2, 30])  # the last finds every register occupied
@pytest.mark.parametrize("shape", [(24, 10, 0, 0), (2, 1, 10, 4)])
@each_architecture
def test_reset_in_the_middle_of_a_stream(architecture, shape, before):
    code = random_code(*shape)
    geometry = Geometry(code, 12, 2, architecture)
    decoder = Decoder(code, 12, 2, architecture)
    reset = Signal()
    results = []

    async def testbench(context):
        random = Random(5)
        context.set(decoder.i.valid, 1)
        for _ in range(before):
            context.set(decoder.i.payload, random.getrandbits(geometry.beat_bits))
            context.set(decoder.o.ready, random.getrandbits(1))
            await context.tick()
        context.set(decoder.i.valid, 0)
        context.set(reset, 1)
        await context.tick()
        context.set(reset, 0)
        stimulus = decoder_stimulus(geometry, random_words(code, 12, 3), stalls=(0.2, 0.2))
        results.append(await exercise(AmaranthAdapter(context, decoder), stimulus))

    simulator = Simulator(ResetInserter(reset)(decoder))
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert results[0].passed, results[0].summary()
