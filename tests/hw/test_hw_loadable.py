"""The decoder with taps in memory: codes loaded one after the other into the same instance."""

# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.decode import decode_words
from algo.errors import LiftError
from algo.packing import pack_bits
from hw.beats import input_beats
from hw.capacity import Capacity
from hw.geometry import Geometry
from hw.loadable import LoadableDecoder
from sim.amaranth_sim import AmaranthAdapter
from sim.bench import exercise
from sim.stimulus import Stimulus
from tests.cases import SHAPES, least_groups, random_code, random_words

LARGEST = Capacity(lifted=32, group=16, window=32, parities=4)


def load(context, decoder, writes):
    """Coroutine: every write, as soon as the bus takes it; returns the edges it took."""

    async def run():
        edges = 0
        context.set(decoder.bus.valid, 1)
        for address, value in writes:
            context.set(decoder.bus.payload, address << 32 | value)
            while not context.get(decoder.bus.ready):
                await context.tick()
                edges += 1
            await context.tick()
            edges += 1
        context.set(decoder.bus.valid, 0)
        return edges

    return run()


def weights_stimulus(code, groups, words, seed=0, stalls=(0.0, 0.0)):
    accs = decode_words(words, groups, code)
    expected = [int(acc) & 0xFFF for acc in accs.ravel()]
    inputs = input_beats(words, Geometry(code, groups))
    masks = [0xFFF] * (groups * code.group)
    return Stimulus(inputs, expected, masks, 12, code.group, seed=seed, stalls=stalls)


def simulate(decoder, testbench, reset=None):
    simulator = Simulator(decoder if reset is None else ResetInserter(reset)(decoder))
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


def run_codes(capacity, runs):
    """`runs` of (code, groups, words, seed, stalls) on one instance, loaded before each."""
    decoder = LoadableDecoder(capacity)
    results = []

    async def testbench(context):
        for code, groups, words, seed, stalls in runs:
            await load(context, decoder, capacity.writes(code, groups))
            stimulus = weights_stimulus(code, groups, words, seed, stalls)
            results.append(await exercise(AmaranthAdapter(context, decoder), stimulus))

    simulate(decoder, testbench)
    for (code, groups, words, _, stalls), result in zip(runs, results, strict=True):
        assert result.passed, f"{code.name}: {result.summary()}"
        assert result.weights == len(words) * groups * code.group
        if stalls == (0.0, 0.0):
            predicted = capacity.latency(code, groups), capacity.cycles(code, groups, len(words))
            assert (result.latency, result.cycles) == predicted, f"{code.name}: {result.summary()}"


def test_every_shape_in_one_decoder():
    runs = []
    for n, shape in enumerate(SHAPES):
        code = random_code(*shape, seed=n)
        groups = least_groups(code) + n
        runs.append((code, groups, random_words(code, groups, 2, n), n, (0.0, 0.0)))
        runs.append((code, groups, random_words(code, groups, 2, n + 50), n, (0.3, 0.3)))
    run_codes(LARGEST, runs)


@settings(max_examples=10, deadline=None)
@given(
    shapes=st.lists(st.sampled_from([s for s in SHAPES if s[0] <= 12]), min_size=1, max_size=3),
    extra=st.integers(0, 9),
    seed=st.integers(0, 2**32),
    stalls=st.sampled_from([(0.0, 0.0), (0.5, 0.1), (0.1, 0.5)]),
)
def test_small_ones(shapes, extra, seed, stalls):
    codes = [random_code(*shape, seed=seed % 100) for shape in shapes]
    capacity = Capacity(
        max(max(code.shifts) for code in codes),
        max(code.group for code in codes),
        max(code.window for code in codes),
        max(len(code.parities) for code in codes),
    )
    runs = [
        (code, groups, random_words(code, groups, 3, seed), seed, stalls)
        for code in codes
        for groups in [least_groups(code) + extra]
    ]
    run_codes(capacity, runs)


@pytest.mark.parametrize("shape", [(32, 16, 0, 0), (12, 5, 9, 0), (2, 1, 10, 4)])
def test_extreme_words(shape):
    code = random_code(*shape)
    groups = least_groups(code) + 2
    bits = np.zeros((4, groups * code.lifted), np.uint8)
    bits[1] = 1
    bits[2, ::2] = 1
    bits[3, -1] = 1
    run_codes(LARGEST, [(code, groups, pack_bits(bits), 0, (0.0, 0.0))])


def test_a_wrong_tap_is_seen():
    code = random_code(12, 5, 9)
    capacity = Capacity(12, 5, 12)
    decoder = LoadableDecoder(capacity)
    words = random_words(code, 9, 2)
    writes = capacity.writes(code, 9)
    at = writes.index((0x1000 + 64 * 3 + 5, int(code.window_taps[3, 5]) & 0xFF))
    writes[at] = (writes[at][0], writes[at][1] ^ 1)
    results = []

    async def testbench(context):
        await load(context, decoder, writes)
        stimulus = weights_stimulus(code, 9, words)
        results.append(await exercise(AmaranthAdapter(context, decoder), stimulus))

    simulate(decoder, testbench)
    assert results[0].mismatches == 2 * 9
    assert results[0].first_mismatch.beat == 3


def test_nothing_is_written_while_a_stream_is_under_way():
    code = random_code(12, 5, 9)
    capacity = Capacity(12, 5, 12)
    decoder = LoadableDecoder(capacity)
    stimulus = weights_stimulus(code, 9, random_words(code, 9, 1))
    zero = [(0x1000, 0)]
    got, results = [], []

    async def testbench(context):
        await load(context, decoder, capacity.writes(code, 9))
        # the first word is in; now a write waits while weights are held up, then leave
        context.set(decoder.i.payload, stimulus.inputs[0])
        context.set(decoder.i.valid, 1)
        await context.tick()
        context.set(decoder.bus.valid, 1)
        context.set(decoder.bus.payload, 0x1000 << 32)
        sent = 1
        for cycle in range(200):
            if sent < len(stimulus.inputs):
                context.set(decoder.i.payload, stimulus.inputs[sent])
            context.set(decoder.i.valid, int(sent < len(stimulus.inputs)))
            context.set(decoder.o.ready, int(cycle % 3 == 0))
            sent += context.get(decoder.i.valid) & context.get(decoder.i.ready)
            if context.get(decoder.o.valid) and context.get(decoder.o.ready):
                got.append(context.get(decoder.o.payload))
            if context.get(decoder.bus.ready):
                break
            await context.tick()
        assert len(got) == 45
        # the first word of the next stream waits for the write, and the write then counts
        context.set(decoder.i.valid, 1)
        assert not context.get(decoder.i.ready)
        context.set(decoder.i.valid, 0)
        await load(context, decoder, zero)
        results.append(await exercise(AmaranthAdapter(context, decoder), stimulus))

    simulate(decoder, testbench)
    assert got == stimulus.expected
    assert results[0].mismatches == 9


@pytest.mark.parametrize("before", [1, 7, 40])
def test_reset_keeps_the_code_and_forgets_the_stream(before):
    code = random_code(2, 1, 10, 4)
    capacity = Capacity(3, 2, 12, 4)
    decoder = LoadableDecoder(capacity)
    reset = Signal()
    results = []

    async def testbench(context):
        await load(context, decoder, capacity.writes(code, 20))
        context.set(decoder.i.valid, 1)
        context.set(decoder.i.payload, 0xDEADBEEF)
        context.set(decoder.o.ready, 1)
        for _ in range(before):
            await context.tick()
        context.set(decoder.i.valid, 0)
        context.set(reset, 1)
        await context.tick()
        context.set(reset, 0)
        stimulus = weights_stimulus(code, 20, random_words(code, 20, 2), stalls=(0.2, 0.2))
        results.append(await exercise(AmaranthAdapter(context, decoder), stimulus))

    simulate(decoder, testbench, reset)
    assert results[0].passed, results[0].summary()


def test_an_empty_decoder_takes_nothing():
    decoder = LoadableDecoder(Capacity(2, 1, 8))
    seen = []

    async def testbench(context):
        context.set(decoder.i.valid, 1)
        context.set(decoder.o.ready, 1)
        for _ in range(20):
            seen.append((context.get(decoder.i.ready), context.get(decoder.o.valid)))
            await context.tick()

    simulate(decoder, testbench)
    assert set(seen) == {(0, 0)}


@pytest.mark.parametrize(
    ("shape", "groups", "message"),
    [
        ((24, 10, 0, 0), 9, r"LQ-24/10 has D=24, the decoder was built for 12"),
        ((12, 6, 3, 0), 9, r"LQ-12/6\+3 has d=6, the decoder was built for 5"),
        ((2, 1, 11, 0), 9, r"LQ-2/1\+11 has window=13, the decoder was built for 12"),
        ((2, 1, 6, 3), 9, r"LQ-2/1\+6\^3 has parities=3, the decoder was built for 2"),
        ((2, 1, 6, 0), 3, "3 groups are too few"),
        ((2, 1, 6, 0), 1 << 23, "groups=8388608 is too long a stream"),
    ],
)
def test_what_does_not_fit_is_named(shape, groups, message):
    with pytest.raises(LiftError, match=message):
        Capacity(12, 5, 12, 2).writes(random_code(*shape), groups)


def test_capacities_out_of_range_are_named():
    with pytest.raises(LiftError, match=r"window=33: a loadable decoder holds 1\.\.32"):
        Capacity(8, 4, 33)
    with pytest.raises(LiftError, match=r"parities=-1: .* holds 0\.\.32"):
        Capacity(8, 4, 12, -1)
