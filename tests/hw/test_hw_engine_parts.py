"""Program, one-bit product, serial requantising and the INT4 datapath, each on its own."""

# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.activations import requantise
from algo.errors import LiftError
from algo.shipped import load_code
from hw.engine import Engine
from hw.engine_accumulate import SignAccumulate
from hw.engine_beats import activation_beats, row_beats
from hw.engine_geometry import EngineGeometry
from hw.engine_int4 import Int4Accumulate
from hw.engine_program import projection_program, run_program, signed_digits
from hw.engine_requantise import SerialRequantise
from hw.export import verilog_text
from hw.output import Output, Scale
from hw.yosys import run_yosys
from sim.amaranth_sim import run_amaranth
from sim.stimulus import Stimulus
from tests.cases import random_code
from tests.hw.engine_cases import random_activations, random_matrix


@given(st.integers(-(1 << 14), 1 << 14))
def test_signed_digits(value):
    digits = signed_digits(value)
    assert sum(digit << place for place, digit in digits.items()) == value
    assert set(digits.values()) <= {1, -1}
    assert not any(place + 1 in digits for place in digits)


@pytest.mark.parametrize("name", ["LQ-16/8", "LQ-24/10", "LQ-2/1+6", "LQ-12/5+9", "LQ-4/1+8"])
def test_programs_project(name):
    code = load_code(name)
    rng = np.random.default_rng(1)
    clear = rng.integers(-(1 << 20), 1 << 20, code.lifted + code.overlap).tolist()
    total = int(rng.integers(-(1 << 20), 1 << 20))
    for taps, ops in zip(code.taps.tolist(), projection_program(code), strict=True):
        expected = sum(tap * (total - 2 * r) for tap, r in zip(taps, clear, strict=True))
        assert run_program(ops, clear, total) == expected
        assert [op.first for op in ops] == [True, *[False] * (len(ops) - 1)]
        assert [op.last for op in ops] == [*[False] * (len(ops) - 1), True]


@pytest.mark.parametrize(("lanes", "builders"), [(4, 1), (8, 2), (20, 1)])
def test_one_bit_product(lanes, builders):
    code = random_code(5, 2, 4)
    geometry = EngineGeometry(code, 8, 11, lanes, builders)
    matrix, activations = random_matrix(code, 8, 11), random_activations(11, 2)
    clear = 1 - np.unpackbits(matrix.words.view(np.uint8), axis=1, bitorder="little")
    clear = clear[:, : geometry.bit_rows].astype(int)
    design = SignAccumulate(geometry)
    seen = []

    async def send(context, port, beats):
        for beat in beats:
            context.set(port.payload, beat)
            context.set(port.valid, 1)
            await context.tick().until(port.ready)
        context.set(port.valid, 0)

    async def activations_in(context):
        beats = [beat for x in activations for beat in activation_beats(x, geometry)]
        await send(context, design.act, beats)

    async def rows_in(context):
        await send(context, design.i, row_beats(matrix.words, geometry) * 2)

    async def check(context):
        for x in activations.astype(int):
            await context.tick().until(design.complete)
            found = []
            for row in range(geometry.bit_rows + 1):
                context.set(design.row, row)
                await context.tick()
                value = context.get(design.data)
                found.append(value - (value >> geometry.sum_width - 1 << geometry.sum_width))
            context.set(design.release, 1)
            await context.tick()
            context.set(design.release, 0)
            seen.append(found == [x.sum(), *(x @ clear)])

    simulator = Simulator(design)
    simulator.add_clock(1e-6)
    simulator.add_testbench(activations_in, background=True)
    simulator.add_testbench(rows_in, background=True)
    simulator.add_testbench(check)
    simulator.run()
    assert seen == [True, True]


class Pairs(wiring.Component):
    """A requantiser whose sum and multiplier come as one beat."""

    def __init__(self, requantiser):
        self.requantiser = requantiser
        self.bits = len(requantiser.i.payload)
        width = self.bits + len(requantiser.scale.payload)
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(width))),
                "o": Out(stream.Signature(requantiser.o.payload.shape())),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.requantiser = inner = self.requantiser
        m.d.comb += [
            inner.i.valid.eq(self.i.valid),
            inner.scale.valid.eq(self.i.valid),
            self.i.ready.eq(inner.i.ready & inner.scale.ready),
            inner.i.payload.eq(self.i.payload[: self.bits]),
            inner.scale.payload.eq(self.i.payload[self.bits :]),
        ]
        wiring.connect(m, inner.o, wiring.flipped(self.o))
        return m


@settings(max_examples=25, deadline=None)
@given(
    columns=st.sampled_from([1, 7, 300]),
    bits=st.sampled_from([1, 4, 16, 31]),
    shift=st.sampled_from([1, 2, 5, 16, 23, 40, 61]),
    width=st.sampled_from([2, 8, 32]),
    stalls=st.sampled_from([(0.0, 0.0), (0.3, 0.5)]),
    seed=st.integers(0, 2**32),
)
def test_requantised_bit_by_bit(columns, bits, shift, width, stalls, seed):
    output = Output(width, Scale("out", bits, shift))
    geometry = EngineGeometry(random_code(3, 2), 4, columns, 4, 1, output)
    limit = 1 << geometry.result_width - 1
    rng = np.random.default_rng(seed)
    sums = [0, 1, -1, limit - 1, 1 - limit, *rng.integers(-limit + 1, limit, 10).tolist()]
    halves = [half for n in (1, 3, 5) if (half := n << shift - 1) < limit]  # times 1: ties
    sums += [sign * half for half in halves for sign in (1, -1)]
    factors = [(1 << bits) - 1, 1, 0, *rng.integers(0, 1 << bits, len(sums)).tolist()]
    pairs = [(s, f) for s, f in zip(sums, factors, strict=False)] + [(s, 1) for s in sums]
    expected = [int(requantise(np.array([s]), f, shift, width)[0]) for s, f in pairs]
    mask, top = (1 << width) - 1, (1 << geometry.result_width) - 1
    stimulus = Stimulus(
        [s & top | f << geometry.result_width for s, f in pairs],
        [value & mask for value in expected], [mask], width, 1, seed, stalls,
    )  # fmt: skip
    result = run_amaranth(Pairs(SerialRequantise(geometry, output, output.scale)), stimulus)
    assert result.passed, result.summary()
    if stalls == (0.0, 0.0):
        steps = max(bits, shift)
        assert result.latency == steps + 1
        assert result.cycles == len(pairs) * (steps + 1) + 1


@pytest.mark.parametrize(
    ("lanes", "adders", "symmetric"),
    [(1, False, False), (5, True, False), (8, False, True), (6, True, True)],
)
def test_int4_datapath(lanes, adders, symmetric):
    rng = np.random.default_rng(2)
    rows, beats = 6, 3
    weights = rng.integers(0, 16, (rows, beats, lanes))
    x = rng.integers(-127, 128, (rows, beats, lanes))
    zeros = rng.integers(0, 16, (rows, beats, 1))
    weights[0], x[0], zeros[0] = 15, -127, 0
    weights[1], x[1], zeros[1] = 0, -127, 15
    design = Int4Accumulate(lanes, beats * lanes, adders, symmetric)
    inputs = []
    for row in range(rows):
        for beat in range(beats):
            value = sum(int(w) << 4 * n for n, w in enumerate(weights[row, beat]))
            value |= sum((int(v) & 255) << 4 * lanes + 8 * n for n, v in enumerate(x[row, beat]))
            value |= int(zeros[row, beat, 0]) << 12 * lanes
            value |= ((beat == 0) | (beat == beats - 1) << 1) << 12 * lanes + 4
            inputs.append(value)
    values = weights - 16 * (weights > 7) if symmetric else weights - zeros
    mask = (1 << design.sum_width) - 1
    expected = [int(s) & mask for s in (values * x).sum(axis=(1, 2))]
    stimulus = Stimulus(inputs, expected, [mask], design.sum_width, 1)
    result = run_amaranth(design, stimulus)
    assert result.passed, result.summary()
    assert result.latency == beats - 1 + design.latency
    assert result.cycles == rows * beats + design.latency


def test_int4_bad_size():
    with pytest.raises(LiftError, match="lanes=0, columns=4"):
        Int4Accumulate(0, 4)


def multipliers(design, folder):
    """Cells that multiply, before any mapping."""
    (folder / "design.v").write_text(verilog_text(design, "design"))
    commands = ["read_verilog design.v", "hierarchy -top design", "proc", "flatten"]
    run_yosys([*commands, "tee -o stat.txt stat"], folder)
    return [line for line in (folder / "stat.txt").read_text().splitlines() if "$mul" in line]


def test_an_engine_holds_no_multiplier(tmp_path):
    engine = Engine(random_code(5, 2, 4), 9, 20, 8, 1, Output(8, Scale("out", 8, 12)))
    assert multipliers(engine, tmp_path) == []
    (line,) = multipliers(Int4Accumulate(4, 20), tmp_path)
    assert line.split() == ["4", "$mul"]
