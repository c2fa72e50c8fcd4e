"""A bench as a function: one call from a test checks a decoder against the oracle."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from algo.code import LiftCode
from algo.decode import Accs
from algo.errors import LiftError
from algo.packing import Words
from sim.result import BenchResult
from sim.stimulus import decoder_stimulus

SIMULATORS = ("verilator", "icarus", "amaranth")


def simulate_decoder(
    code: LiftCode,
    words: Words,
    groups: int,
    lanes: int = 1,
    simulator: str = "verilator",
    seed: int = 0,
    stalls: tuple[float, float] = (0.25, 0.25),
    waves: bool = False,
    workdir: Path | None = None,
    expected: Accs | None = None,
    name: str = "run",
    architecture: str = "tables:4",
) -> BenchResult:
    """Export, build and run a decoder, and compare every weight with `algo.decode`.

    ``assert result.passed, result.summary()`` makes a test of it.

    Args:
        code: the code to decode.
        words: packed streams, uint32 ``(streams, ceil(G*D/32))``.
        groups: G, groups per stream.
        lanes: P, groups per output beat.
        simulator: ``verilator`` or ``icarus`` run the exported Verilog, ``amaranth`` the design.
        seed: of the stalls.
        stalls: probabilities of a stalled cycle at the input and at the output, below 1.
        waves: record a waveform file; needs `workdir`, its path is in the result.
        workdir: keeps Verilog, build, logs, vectors and results; a later call with the same
            decoder uses the build again. Without it they are temporary.
        expected: compare with these instead, int16 ``(streams, G*d)``.
        name: of this run's files in `workdir`; give each run its own to keep them.
        architecture: of the decoder, as `hw.architecture.parse_architecture` reads it.

    Raises:
        LiftError: arguments do not fit, a tool is missing, or building or simulating fails.
    """
    from hw.architecture import parse_architecture
    from hw.decoder import Decoder
    from hw.geometry import Geometry

    if simulator not in SIMULATORS:
        raise LiftError(f"simulator {simulator!r} is unknown; use one of {', '.join(SIMULATORS)}")
    if waves and workdir is None:
        raise LiftError("waves=True needs a workdir to keep the waveform file in")
    geometry = Geometry(code, groups, lanes, parse_architecture(architecture))
    stimulus = decoder_stimulus(geometry, words, expected, seed, stalls)
    decoder = Decoder(code, groups, lanes, geometry.architecture)
    with ExitStack() as stack:
        if workdir is None:
            workdir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="liftquant-")))
        if simulator == "amaranth":
            from sim.amaranth_sim import run_amaranth

            return run_amaranth(decoder, stimulus, workdir / f"{name}.vcd" if waves else None)
        from hw.export import export
        from sim.cocotb_runner import build, run

        verilog, _ = export(decoder, workdir)
        model = build(verilog, workdir / simulator, simulator=simulator, waves=waves)
        return run(model, stimulus, waves, name)
