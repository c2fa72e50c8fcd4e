"""Width, saturation, row scales and the mark of a stream's last beat."""

# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import Array, C, Cat, Module, Mux, ResetInserter, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.activations import requantise
from algo.code import LiftCode, block_shifts
from algo.decode import decode_words
from algo.errors import LiftError
from algo.packing import pack_bits
from hw.decoder import Decoder
from hw.geometry import Geometry
from hw.output import Output, Scale, parse_scale
from sim.amaranth_sim import AmaranthAdapter, run_amaranth
from sim.bench import exercise
from sim.result import Mismatch
from sim.stimulus import Stimulus, decoder_stimulus
from tests.cases import random_code, random_words

# the largest sums there are, +-2047 and +-2046
LARGEST = LiftCode(
    17,
    2,
    0,
    block_shifts(17, 2),
    np.array([[127] * 16 + [15], [-128] * 15 + [-126, 0]], np.int8),
    0,
)


class Fed(wiring.Component):
    """A requantising decoder with its multipliers in a memory beside it, read again and again."""

    def __init__(self, decoder, multipliers):
        self.decoder = decoder
        self.multipliers = multipliers
        super().__init__(
            {
                "i": In(stream.Signature(decoder.i.payload.shape())),
                "o": Out(stream.Signature(decoder.o.payload.shape())),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.decoder = decoder = self.decoder
        count = len(self.multipliers)
        at = Signal(range(count + 1))
        with m.If(decoder.scale.ready):
            m.d.sync += at.eq(Mux(at == count - 1, 0, at + 1))
        width = len(decoder.scale.payload)
        m.d.comb += [
            decoder.scale.valid.eq(1),
            decoder.scale.payload.eq(Array(C(x, width) for x in self.multipliers)[at]),
        ]
        wiring.connect(m, wiring.flipped(self.i), decoder.i)
        wiring.connect(m, decoder.o, wiring.flipped(self.o))
        return m


class Marked(wiring.Component):
    """A decoder whose mark is its payload's highest bit."""

    def __init__(self, decoder):
        self.decoder = decoder
        width = len(decoder.o.payload)
        super().__init__(
            {
                "i": In(stream.Signature(decoder.i.payload.shape())),
                "o": Out(stream.Signature(unsigned(width + 1))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.decoder = decoder = self.decoder
        wiring.connect(m, wiring.flipped(self.i), decoder.i)
        m.d.comb += [
            self.o.payload.eq(Cat(decoder.o.payload, decoder.last)),
            self.o.valid.eq(decoder.o.valid),
            decoder.o.ready.eq(self.o.ready),
        ]
        return m


def extreme_words(code, groups):
    bits = np.random.default_rng(3).integers(0, 2, (5, groups * code.lifted)).astype(np.uint8)
    bits[0], bits[1] = 0, 1
    return pack_bits(bits)


@pytest.mark.parametrize("width", [2, 3, 8, 11, 12, 13, 16, 17, 32])
def test_every_width(width):
    words = extreme_words(LARGEST, 5)
    geometry = Geometry(LARGEST, 5, 2, output=Output(width))
    decoder = Decoder(LARGEST, 5, 2, output=Output(width))
    assert len(decoder.o.payload) == 4 * width
    stimulus = decoder_stimulus(geometry, words)
    result = run_amaranth(decoder, stimulus)
    assert result.passed, result.summary()
    assert (result.latency, result.cycles) == (geometry.latency, geometry.cycles(5))

    # what the bench expected, by hand: all bits zero gives -2047 and +2046
    field = stimulus.expected[0] & (1 << width) - 1
    assert field == max(-2047, -(1 << width - 1)) % (1 << width)
    field = stimulus.expected[0] >> width & (1 << width) - 1
    assert field == min(2046, (1 << width - 1) - 1)


def fed(geometry, words, multipliers):
    """The decoder with its feeder, and what it should give; multipliers by stream or by weight."""
    scale, accs = geometry.output.scale, decode_words(words, geometry.groups, geometry.code)
    by_weight = np.broadcast_to(
        np.array(multipliers)[:, None] if scale.axis == "in" else np.array(multipliers), accs.shape
    )
    expected = np.array(
        [
            requantise(np.array([acc]), factor, scale.shift, geometry.output.width)[0]
            for acc, factor in zip(accs.ravel().tolist(), by_weight.ravel().tolist(), strict=True)
        ]
    ).reshape(accs.shape)
    beats = list(multipliers)
    if scale.axis == "out":
        each = geometry.lanes * geometry.code.group
        beats = [
            sum(x << scale.multiplier_bits * n for n, x in enumerate(multipliers[at : at + each]))
            for at in range(0, len(multipliers), each)
        ]
    decoder = Decoder(
        geometry.code, geometry.groups, geometry.lanes, geometry.architecture, geometry.output
    )
    return Fed(decoder, beats), expected


@settings(max_examples=20, deadline=None)
@given(
    axis=st.sampled_from(["in", "out"]),
    lanes=st.sampled_from([1, 2, 3]),
    bits=st.sampled_from([1, 8, 16, 31]),
    shift=st.sampled_from([1, 7, 19, 45, 62]),
    width=st.sampled_from([2, 8, 12, 16, 32]),
    stalls=st.sampled_from([(0.0, 0.0), (0.3, 0.3)]),
    seed=st.integers(0, 2**32),
)
def test_requantised_as_the_oracle_does(axis, lanes, bits, shift, width, stalls, seed):
    code = random_code(5, 2, 4, parities=2)
    geometry = Geometry(code, 7, lanes, output=Output(width, Scale(axis, bits, shift)))
    words = random_words(code, 7, 3, seed)
    rng = np.random.default_rng(seed)
    multipliers = rng.integers(0, 1 << bits, 3 if axis == "in" else 14).tolist()
    multipliers[0], multipliers[-1] = (1 << bits) - 1, 0
    design, expected = fed(geometry, words, multipliers)
    stimulus = decoder_stimulus(geometry, words, expected, seed, stalls)
    result = run_amaranth(design, stimulus)
    assert result.passed, result.summary()
    if stalls == (0.0, 0.0):
        assert (result.latency, result.cycles) == (geometry.latency, geometry.cycles(3))


@pytest.mark.parametrize("shift", [1, 2, 11])  # by a half, a quarter: ties; the last: all near 1
@pytest.mark.parametrize("width", [2, 8, 12])
def test_halves_and_bounds(shift, width):
    words = extreme_words(LARGEST, 6)
    geometry = Geometry(LARGEST, 6, 1, output=Output(width, Scale("in", 8, shift)))
    design, expected = fed(geometry, words, [1, 2, 255, 0, 3])
    result = run_amaranth(design, decoder_stimulus(geometry, words, expected))
    assert result.passed, result.summary()


def test_a_wrong_multiplier_is_seen_where_it_is():
    code = random_code(5, 2, 4)
    geometry = Geometry(code, 7, 2, output=Output(12, Scale("out", 8, 6)))
    words = random_words(code, 7, 2)
    design, expected = fed(geometry, words, [64] * 14)
    design.multipliers[1] += 64 << 8  # of the second beat's second weight
    result = run_amaranth(design, decoder_stimulus(geometry, words, expected))
    got = [int(2 * row[5]) for row in expected]
    assert result.first_mismatch == Mismatch(0, 1, 0, 1, int(expected[0, 5]), got[0])
    assert result.mismatches == 2


@pytest.mark.parametrize("architecture", ["tables:4", "shared:3", "tree,flow=credit"])
@pytest.mark.parametrize("groups", [6, 7])
def test_the_last_beat_is_marked(architecture, groups):
    code = random_code(5, 2, 4)
    geometry = Geometry(code, groups, 2)
    plain = decoder_stimulus(geometry, random_words(code, groups, 4))
    mark = 1 << geometry.payload_bits
    expected = [
        beat | (mark if n % geometry.beats_out == geometry.beats_out - 1 else 0)
        for n, beat in enumerate(plain.expected)
    ]
    masks = [mask | mark for mask in plain.masks]
    stimulus = Stimulus(plain.inputs, expected, masks, 1, 1, seed=2, stalls=(0.2, 0.4))
    decoder = Decoder(code, groups, 2, architecture, mark_last=True)
    result = run_amaranth(Marked(decoder), stimulus)
    assert result.passed, result.summary()


@pytest.mark.parametrize("axis", ["in", "out"])
def test_reset_forgets_where_it_was(axis):
    code = random_code(5, 2, 4)
    output = Output(8, Scale(axis, 8, 6))
    geometry = Geometry(code, 9, 2, output=output)
    words = random_words(code, 9, 2)
    design, expected = fed(geometry, words, [90, 17] if axis == "in" else list(range(60, 78)))
    reset = Signal()
    results = []

    async def testbench(context):
        context.set(design.i.valid, 1)
        context.set(design.o.ready, 1)
        for _ in range(13):
            await context.tick()
        context.set(design.i.valid, 0)
        context.set(reset, 1)
        await context.tick()
        context.set(reset, 0)
        stimulus = decoder_stimulus(geometry, words, expected, stalls=(0.2, 0.2))
        results.append(await exercise(AmaranthAdapter(context, design), stimulus))

    simulator = Simulator(ResetInserter(reset)(design))
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert results[0].passed, results[0].summary()


def test_bad_values_are_named():
    with pytest.raises(LiftError, match=r"width=1: a weight has 2\.\.32 bits"):
        Output(1)
    with pytest.raises(LiftError, match="width=33"):
        Output(33)
    with pytest.raises(LiftError, match=r"axis='up': scales belong to streams \(in\) or weights"):
        Scale("up", 8, 8)
    with pytest.raises(LiftError, match="multiplier_bits=32"):
        Scale("in", 32, 8)
    with pytest.raises(LiftError, match="shift=0"):
        Scale("in", 8, 0)
    with pytest.raises(LiftError, match="scale 'in:8' is not AXIS:MULTIPLIER_BITS:SHIFT"):
        parse_scale("in:8")
    assert parse_scale("out:16:20") == Scale("out", 16, 20)
    geometry = Geometry(LARGEST, 5, output=Output(8, Scale("in", 8, 8)))
    with pytest.raises(LiftError, match="multipliers of its own; give expected weights"):
        decoder_stimulus(geometry, extreme_words(LARGEST, 5))
