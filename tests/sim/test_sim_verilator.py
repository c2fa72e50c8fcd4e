"""The exported Verilog in Verilog simulators, through cocotb."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from algo.decode import decode_words
from algo.errors import LiftError
from hw.decoder import Decoder
from hw.export import export
from hw.geometry import Geometry
from sim.amaranth_sim import run_amaranth
from sim.cocotb_runner import Model, build, run
from sim.result import Mismatch
from sim.stimulus import Stimulus, decoder_stimulus
from sim.toolchain import tool_environment
from sim.verify import simulate_decoder
from tests.cases import random_code, random_words

WRAPPER = """
module dut(input clock, input reset, input [11:0] a, input a_valid, output a_ready,
           output reg [11:0] b, output reg b_valid, input b_ready);
  assign a_ready = !b_valid || b_ready;
  always @(posedge clock)
    if (reset) b_valid <= 0;
    else if (a_ready) begin b <= a + 12'd1; b_valid <= a_valid; end
endmodule
"""
WRAPPER_PORTS = {
    "clk": "clock",
    "rst": "reset",
    "i_valid": "a_valid",
    "i_ready": "a_ready",
    "i_payload": "a",
    "o_valid": "b_valid",
    "o_ready": "b_ready",
    "o_payload": "b",
}


def test_every_codeword_of_a_block_code(tmp_path):
    code = random_code(16, 8)
    everything = np.random.default_rng(0).permutation(1 << 16).astype(np.uint32)
    words = np.ascontiguousarray(everything.reshape(64, 512, 2) @ np.array([1, 1 << 16])).astype(
        np.uint32
    )
    result = simulate_decoder(code, words, 1024, lanes=8, seed=1, workdir=tmp_path)
    assert result.passed, result.summary()
    assert result.weights == 8 << 16
    assert result.simulator == "verilator"

    # the same build, full rate: the predictions hold in Verilog too
    again = simulate_decoder(code, words, 1024, lanes=8, stalls=(0, 0), workdir=tmp_path)
    geometry = Geometry(code, 1024, 8)
    assert again.passed, again.summary()
    assert (again.latency, again.cycles) == (geometry.latency, geometry.cycles(64))

    # and a wrong expectation is reported as such
    expected = decode_words(words, 1024, code)
    expected[63, 8 * 1023 + 5] += 4
    wrong = simulate_decoder(code, words, 1024, lanes=8, workdir=tmp_path, expected=expected)
    value = int(expected[63, 8 * 1023 + 5])
    assert wrong.mismatches == 1
    assert wrong.first_mismatch == Mismatch(63, 127, 7, 5, value, value - 4)


def test_a_sliding_code_with_stalls_runs_alike_everywhere(tmp_path):
    code = random_code(12, 5, 9, parities=2)
    geometry = Geometry(code, 27, 2)
    verilog, _ = export(Decoder(code, 27, 2), tmp_path)
    model = build(verilog, tmp_path / "verilator")
    assert model.seconds > 0
    assert build(verilog, tmp_path / "verilator").seconds == 0  # nothing changed
    for seed, stalls in [(1, (0.25, 0.25)), (2, (0.6, 0.0)), (3, (0.0, 0.6))]:
        stimulus = decoder_stimulus(geometry, random_words(code, 27, 20, seed), None, seed, stalls)
        result = run(model, stimulus)
        assert result.passed, result.summary()
        same = run_amaranth(Decoder(code, 27, 2), stimulus)
        assert (result.cycles, result.latency) == (same.cycles, same.latency), result.summary()


def test_foreign_verilog_through_a_port_map_with_waves(tmp_path):
    source = tmp_path / "dut.v"
    source.write_text(WRAPPER)
    model = build(source, tmp_path / "build", top="dut", waves=True, ports=WRAPPER_PORTS)
    sent = [5, 0xFFF, 17, 0]
    stimulus = Stimulus(sent, [6, 0, 18, 2], [0xFFF], field=12, group=1, stalls=(0.3, 0.3))
    result = run(model, stimulus, waves=True)
    assert result.mismatches == 1
    assert result.first_mismatch == Mismatch(3, 0, 0, 0, 2, 1)
    with open(result.waves) as file:
        assert "$enddefinitions" in file.read()

    misnamed = replace(model, ports={**WRAPPER_PORTS, "o_payload": "nonsense"})
    with pytest.raises(LiftError, match=r"(?s)no result for dut; the log .*nonsense"):
        run(misnamed, stimulus)


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")
def test_icarus(tmp_path):
    code = random_code(12, 5, 9)
    words = random_words(code, 27, 5)
    result = simulate_decoder(code, words, 27, 2, simulator="icarus", workdir=tmp_path)
    assert result.passed, result.summary()


def test_a_failed_build_quotes_its_log(tmp_path):
    source = tmp_path / "broken.v"
    source.write_text("module broken(input clk); assign nonsense = ; endmodule\n")
    with pytest.raises(LiftError, match=r"(?s)building broken .*build\.log ends:.*syntax error"):
        build(source, tmp_path / "build", top="broken")


def test_waves_need_a_model_built_for_them(tmp_path):
    model = Model("verilator", tmp_path, "dut", waves=False)
    with pytest.raises(LiftError, match="was built without waveforms; build it with waves=True"):
        run(model, Stimulus([], [], [1], 1, 1), waves=True)


def test_missing_tools_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LiftError, match=r"verilator needs perl, make, g\+\+, not .* apt install g"):
        tool_environment("verilator")
    with pytest.raises(LiftError, match="icarus needs iverilog, vvp, not found on PATH; apt inst"):
        tool_environment("icarus")
    with pytest.raises(LiftError, match="simulator 'vcs' builds no Verilog here"):
        tool_environment("vcs")
