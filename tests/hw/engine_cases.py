"""Layers for engines to compute, the oracle's answer, and a bench that drives all streams."""

from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from algo.activations import integer_product, requantise
from algo.matrix import PackedMatrix, word_shape
from algo.packing import pack_bits
from hw.engine import Engine
from hw.engine_beats import activation_beats, row_beats


def random_matrix(code, rows, columns, seed=0, bits=None):
    """A matrix on axis out; `bits` 0 or 1 makes all of its bits that."""
    _, words = word_shape((rows, columns), code, "out")
    n = -(-rows // code.group) * code.lifted
    drawn = np.random.default_rng(seed).integers(0, 2, (columns, n)).astype(np.uint8)
    if bits is not None:
        drawn[:] = bits
    packed = pack_bits(drawn)
    assert packed.shape == (columns, words)
    return PackedMatrix(code, "out", (rows, columns), packed, torch.ones(rows).bfloat16())


def random_activations(columns, vectors, seed=0):
    """int8 ``(vectors, columns)``: the first all 127, the second all -127, then random ones."""
    drawn = np.random.default_rng(seed).integers(-127, 128, (vectors, columns)).astype(np.int8)
    drawn[:1] = 127
    drawn[1:2] = -127
    return drawn


def expected_outputs(matrix, activations, output=None, multipliers=None):
    """The oracle's integers, ``(vectors, rows)``."""
    sums = integer_product(matrix, torch.from_numpy(activations)[None])
    if output is None:
        return sums
    columns = [
        requantise(sums[:, row], factor, output.scale.shift, output.width)
        for row, factor in enumerate(multipliers)
    ]
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Feed:
    """Payloads of a run, by stream."""

    act: list
    i: list
    scale: list

    @classmethod
    def of(cls, geometry, matrix, activations, multipliers=()):
        act = [beat for x in activations for beat in activation_beats(x, geometry)]
        return cls(
            act,
            row_beats(matrix.words, geometry) * len(activations),
            list(multipliers) * len(activations),
        )


@dataclass(frozen=True)
class Run:
    """Outputs as signed integers, and clock edges from the first activation to the last output."""

    outputs: list
    cycles: int


def run_engine(engine, feed, outputs, seed=0, stall=0.0, break_off=None, patience=3000):
    """Drive `feed`, take `outputs` outputs; stalls on every stream. With `break_off`, first send
    as much as goes in in so many cycles, then reset.
    """
    found = []
    reset = Signal()

    async def transfer(context, limit):
        random = Random(seed)
        queues = {
            name: list(getattr(feed, name))
            for name in ("act", "i", "scale")
            if hasattr(engine, name)
        }
        at = dict.fromkeys(queues, 0)
        offered = dict.fromkeys(queues, False)
        taken, cycle, first, last, waited, held = [], 0, None, 0, 0, None
        while len(taken) < outputs and (limit is None or cycle < limit):
            for name, queue in queues.items():
                if not offered[name] and at[name] < len(queue):
                    offered[name] = random.random() >= stall
                port = getattr(engine, name)
                context.set(port.valid, offered[name])
                if offered[name]:
                    context.set(port.payload, queue[at[name]])
            ready = random.random() >= stall
            context.set(engine.o.ready, ready)
            for name in queues:
                if offered[name] and context.get(getattr(engine, name).ready):
                    if name == "act" and first is None:
                        first = cycle
                    at[name] += 1
                    offered[name] = False
                    waited = 0
            payload = context.get(engine.o.payload) if context.get(engine.o.valid) else None
            assert held is None or payload == held, f"output changed while it waited, cycle {cycle}"
            held = None if ready else payload
            if ready and payload is not None:
                width = len(engine.o.payload)
                taken.append(payload - (payload >> width - 1 << width))
                last, waited = cycle, 0
            waited += 1
            assert waited < patience, f"nothing moved in {patience} cycles: {at}, {len(taken)} out"
            cycle += 1
            await context.tick()
        for name in queues:
            context.set(getattr(engine, name).valid, 0)
        return Run(taken, last - (first or 0) + 1)

    async def testbench(context):
        if break_off is not None:
            await transfer(context, break_off)
            context.set(reset, 1)
            await context.tick()
            context.set(reset, 0)
        found.append(await transfer(context, None))
        context.set(engine.o.ready, 1)
        for _ in range(50):
            await context.tick()
            assert not context.get(engine.o.valid), "surplus output"

    simulator = Simulator(ResetInserter(reset)(engine))
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return found[0]


def check_layer(code, shape, lanes, builders=1, output=None, vectors=3, seed=0, bits=None, **how):
    """Compute random vectors and compare with the oracle; returns the run and the geometry."""
    rows, columns = shape
    engine = Engine(code, rows, columns, lanes, builders, output)
    matrix = random_matrix(code, rows, columns, seed, bits)
    activations = random_activations(columns, vectors, seed)
    multipliers = None
    if output is not None:
        limit = 1 << output.scale.multiplier_bits
        multipliers = np.random.default_rng(seed).integers(0, limit, rows).tolist()
        multipliers[0] = limit - 1
    feed = Feed.of(engine.geometry, matrix, activations, multipliers or ())
    expected = expected_outputs(matrix, activations, output, multipliers)
    run = run_engine(engine, feed, expected.size, seed, **how)
    assert run.outputs == expected.ravel().tolist()
    return run, engine.geometry
