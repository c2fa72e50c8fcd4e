"""Builds Verilog into a simulator and runs the bench on it, each in a process of its own.

cocotb's runner takes the caller's environment over its own settings and exits the process on
failure; a child with an environment made for it keeps the caller, pytest included, out of that.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from algo.errors import LiftError
from algo.files import read_json, write_json
from sim.result import BenchResult
from sim.stimulus import Stimulus, save_stimulus
from sim.toolchain import JOB_VARIABLE, tool_environment

PORTS = {
    "clk": "clk",
    "rst": "rst",
    "i_valid": "i__valid",
    "i_ready": "i__ready",
    "i_payload": "i__payload",
    "o_valid": "o__valid",
    "o_ready": "o__ready",
    "o_payload": "o__payload",
}
_VERILATOR_ARGUMENTS = (
    "-Wno-WIDTH",  # Amaranth's Verilog leaves extension to the language's rules
    # cocotb's runner makes every signal public, which stops most optimisation; ports are enough
    "--no-public-flat-rw",
    "--public-depth",
    "1",
)
_TAIL = 30  # lines of a log that an error quotes


@dataclass(frozen=True)
class Model:
    """A design built for a simulator, to be run any number of times.

    Attributes:
        simulator: ``verilator`` or ``icarus``.
        directory: holds the build and the logs.
        top: the top module.
        waves: whether it can record waveforms.
        seconds: wall-clock time of the build; 0 where an earlier one was found.
        ports: the design's name for each of the bench's ports.
    """

    simulator: str
    directory: Path
    top: str
    waves: bool
    seconds: float = 0.0
    ports: Mapping[str, str] = field(default_factory=lambda: dict(PORTS))


def build(
    verilog: Path,
    directory: Path,
    top: str = "liftquant_decoder",
    simulator: str = "verilator",
    waves: bool = False,
    ports: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> Model:
    """Build Verilog for a simulator; an identical earlier build in `directory` is used again.

    Args:
        verilog: the source file.
        directory: to build in; ``build.log`` is written there.
        top: the top module.
        simulator: ``verilator`` or ``icarus``.
        waves: make the model able to record waveforms, which slows it down.
        ports: where the design's port names differ from `PORTS`, the names that differ.
        arguments: more for the simulator's compiler, such as ``-Wno-fatal`` or ``--timing``.

    Raises:
        LiftError: a tool is missing, or the build fails; the end of its log is quoted.
    """
    if simulator == "verilator":
        arguments = (*_VERILATOR_ARGUMENTS, *arguments)
    environment = tool_environment(simulator, arguments)
    directory = directory.resolve()
    model = Model(simulator, directory, top, waves, ports={**PORTS, **(ports or {})})
    stamp_path = directory / "build.json"
    request = {
        "do": "build",
        "simulator": simulator,
        "source": str(verilog.resolve()),
        "top": top,
        "directory": str(directory),
        "arguments": list(arguments),
        "waves": waves,
    }
    stamp = {**request, "sha256": hashlib.sha256(verilog.read_bytes()).hexdigest()}
    if stamp_path.exists() and read_json(stamp_path) == stamp:
        return model
    stamp_path.unlink(missing_ok=True)
    started = time.perf_counter()
    log = directory / "build.log"
    if _child(request, log, environment):
        raise LiftError(f"building {top} for {simulator} failed; {_tail(log)}")
    write_json(stamp_path, stamp)
    return replace(model, seconds=time.perf_counter() - started)


def run(model: Model, stimulus: Stimulus, waves: bool = False, name: str = "run") -> BenchResult:
    """Run the bench on a built model.

    Args:
        model: from `build`.
        stimulus: what to send and expect.
        waves: record a waveform file (VCD; FST with Icarus); its path is in the result.
        name: of the folder under the model's directory for vectors, log and result.

    Raises:
        LiftError: the simulator fails, or the model cannot record waveforms.
    """
    if waves and not model.waves:
        raise LiftError("this model was built without waveforms; build it with waves=True")
    directory = model.directory / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    vectors, result, job = (directory / f for f in ("stimulus.npz", "result.json", "job.json"))
    save_stimulus(stimulus, vectors)
    write_json(
        job,
        {
            "ports": dict(model.ports),
            "simulator": model.simulator,
            "stimulus": str(vectors),
            "result": str(result),
        },
    )
    dump = directory / ("dump.vcd" if model.simulator == "verilator" else "dump.fst")
    request = {
        "do": "run",
        "simulator": model.simulator,
        "top": model.top,
        "directory": str(model.directory),
        "run_directory": str(directory),
        "seed": stimulus.seed,
        "plusargs": [f"+dumpfile_path={dump}"] if model.simulator == "icarus" else [],
        "waves": waves,
    }
    environment = tool_environment(model.simulator)
    environment[JOB_VARIABLE] = str(job)
    log = directory / "run.log"
    status = _child(request, log, environment)
    if status or not result.exists():
        raise LiftError(f"{model.simulator} gave no result for {model.top}; {_tail(log)}")
    found = BenchResult.from_fields(read_json(result))
    return replace(found, waves=str(dump)) if waves else found


def _child(request: dict[str, Any], log: Path, environment: dict[str, str]) -> int:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as out:
        return subprocess.run(
            [sys.executable, "-m", "sim.runner_child", json.dumps(request)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
    return "\n".join([f"the log {log} ends:", *lines])
