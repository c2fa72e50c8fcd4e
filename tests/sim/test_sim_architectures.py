"""One decoder of every architecture as Verilog, in Verilator."""

import pytest
from amaranth.back.verilog import convert
from amaranth.hdl import Array, C, Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from algo.decode import decode_words
from hw.architecture import parse_architecture
from hw.beats import input_beats
from hw.capacity import Capacity
from hw.geometry import Geometry
from hw.loadable import LoadableDecoder
from sim.cocotb_runner import build, run
from sim.stimulus import Stimulus
from sim.verify import simulate_decoder
from tests.cases import random_code, random_words


@pytest.mark.parametrize("architecture", ["tables:6,flow=credit", "tree,levels=2", "shared:3"])
def test_in_verilator(tmp_path, architecture):
    code = random_code(5, 2, 4, parities=2)
    words = random_words(code, 11, 40)
    free = simulate_decoder(
        code, words, 11, 2, stalls=(0, 0), workdir=tmp_path, architecture=architecture
    )
    geometry = Geometry(code, 11, 2, parse_architecture(architecture))
    assert free.passed, free.summary()
    assert (free.latency, free.cycles) == (geometry.latency, geometry.cycles(40))
    for seed, stalls in [(1, (0.25, 0.25)), (2, (0.0, 0.7))]:
        held = simulate_decoder(
            code, words, 11, 2, seed=seed, stalls=stalls, workdir=tmp_path,
            architecture=architecture,
        )  # fmt: skip
        assert held.passed, held.summary()
        assert held.weights == 40 * 11 * 2


class Loaded(wiring.Component):
    """A loadable decoder with its writes in a memory beside it, carried out after reset."""

    def __init__(self, capacity, writes):
        self.decoder = LoadableDecoder(capacity)
        self.writes = writes
        super().__init__(
            {"i": In(stream.Signature(unsigned(32))), "o": Out(stream.Signature(unsigned(12)))}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.decoder = decoder = self.decoder
        at = Signal(range(len(self.writes) + 1))
        writes = [*self.writes, *[(0, 0)] * ((1 << len(at)) - len(self.writes))]
        payloads = Array(C(address << 32 | value, 48) for address, value in writes)
        m.d.comb += [
            decoder.bus.valid.eq(at != len(self.writes)),
            decoder.bus.payload.eq(payloads[at]),
        ]
        with m.If(decoder.bus.valid & decoder.bus.ready):
            m.d.sync += at.eq(at + 1)
        wiring.connect(m, wiring.flipped(self.i), decoder.i)
        wiring.connect(m, decoder.o, wiring.flipped(self.o))
        return m


def test_loadable_in_verilator(tmp_path):
    code = random_code(5, 2, 4, parities=2)
    capacity = Capacity(6, 3, 8, 3)
    words = random_words(code, 11, 30)
    verilog = tmp_path / "loaded.v"
    design = Loaded(capacity, capacity.writes(code, 11))
    verilog.write_text(convert(design, name="loaded", emit_src=False, strip_internal_attrs=True))
    model = build(verilog, tmp_path / "build", top="loaded")
    for seed, stalls in [(0, (0.0, 0.0)), (1, (0.3, 0.3))]:
        expected = [int(acc) & 0xFFF for acc in decode_words(words, 11, code).ravel()]
        stimulus = Stimulus(
            input_beats(words, Geometry(code, 11)), expected, [0xFFF] * 22, 12, 2, seed, stalls
        )
        result = run(model, stimulus)
        assert result.passed, result.summary()
        if not seed:
            assert result.latency == capacity.latency(code, 11)
            assert result.cycles == capacity.cycles(code, 11, 30)
