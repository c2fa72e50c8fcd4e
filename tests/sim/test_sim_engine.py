"""An engine as Verilog, in Verilator."""

import numpy as np
from amaranth.hdl import Array, C, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.engine import Engine
from hw.engine_beats import activation_beats, result_beats, row_beats
from hw.export import verilog_text
from hw.output import Output, Scale
from sim.cocotb_runner import build, run
from sim.stimulus import Stimulus
from tests.cases import random_code
from tests.hw.engine_cases import expected_outputs, random_activations, random_matrix


class FedEngine(wiring.Component):
    """An engine with activations and multipliers in memories beside it, read again and again."""

    def __init__(self, engine, activations, multipliers):
        self.engine = engine
        self.feeds = {"act": activations, "scale": multipliers}
        super().__init__(
            {
                "i": In(stream.Signature(engine.i.payload.shape())),
                "o": Out(stream.Signature(unsigned(len(engine.o.payload)))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.engine = engine = self.engine
        for name, beats in self.feeds.items():
            port = getattr(engine, name)
            at = Signal(range(len(beats) + 1), name=f"{name}_at")
            with m.If(port.ready):
                m.d.sync += at.eq(Mux(at == len(beats) - 1, 0, at + 1))
            spare = [0] * ((1 << len(at)) - len(beats))  # or the case would be incomplete
            values = Array(C(beat, len(port.payload)) for beat in [*beats, *spare])
            m.d.comb += [port.valid.eq(1), port.payload.eq(values[at])]
        wiring.connect(m, wiring.flipped(self.i), engine.i)
        wiring.connect(m, engine.o, wiring.flipped(self.o))
        return m


def test_in_verilator(tmp_path):
    code, rows, columns, vectors = random_code(12, 5, 9), 27, 45, 6
    output = Output(8, Scale("out", 12, 24))
    engine = Engine(code, rows, columns, 16, 2, output)
    geometry = engine.geometry
    matrix, activations = random_matrix(code, rows, columns), random_activations(columns, vectors)
    multipliers = np.random.default_rng(5).integers(0, 1 << 12, rows).tolist()
    outputs = expected_outputs(matrix, activations, output, multipliers)
    assert len(np.unique(outputs)) > 30  # neither saturated nor zero everywhere

    act = [beat for x in activations for beat in activation_beats(x, geometry)]
    design = FedEngine(engine, act, multipliers)
    (tmp_path / "fed.v").write_text(verilog_text(design, "fed"))
    model = build(tmp_path / "fed.v", tmp_path / "build", top="fed")
    inputs = row_beats(matrix.words, geometry) * vectors
    expected = result_beats(outputs, geometry)
    for seed, stalls in [(0, (0.0, 0.0)), (1, (0.3, 0.3)), (2, (0.0, 0.8))]:
        stimulus = Stimulus(inputs, expected, [255] * rows, 8, 1, seed, stalls)
        result = run(model, stimulus, name=f"run-{seed}")
        assert result.passed, result.summary()
        if not seed:  # the bench counts from the first row, which the first tables precede
            before = 1 + geometry.tile_cycles - geometry.bit_rows
            assert result.cycles == geometry.cycles(vectors) - before

    wrong = [expected[0], expected[1] ^ 1, *expected[2:]]
    result = run(model, Stimulus(inputs, wrong, [255] * rows, 8, 1))
    assert (result.mismatches, result.first_mismatch.beat) == (1, 1)
