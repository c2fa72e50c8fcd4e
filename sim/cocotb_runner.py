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
from typing import Any, Literal

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
_HDL = (".v", ".vh", ".sv", ".svh", ".inc")  # what a source may include
_PASS_FILES = {"stimulus": "npz", "result": "json", "times": "json", "trace": "json"}
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
        includes: folders of the sources, whose files are in reach of a run (``$readmemh``).
    """

    simulator: str
    directory: Path
    top: str
    waves: bool
    seconds: float = 0.0
    ports: Mapping[str, str] = field(default_factory=lambda: dict(PORTS))
    includes: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Pass:
    """A stimulus, and how many of its input beats are sent and broken off by a reset beforehand."""

    stimulus: Stimulus
    broken_off: int = 0


@dataclass(frozen=True)
class Resets:
    """How the design is reset before every pass.

    Attributes:
        kind: ``sync``, with clock edges, or ``async``, without.
        between: whether it can be reset; otherwise passes end at the first failure, which leaves
            it in an unknown state.
        random_start: registers begin with random values (Verilator only; Icarus has X).
    """

    kind: Literal["sync", "async"] = "sync"
    between: bool = True
    random_start: bool = False


def build(
    verilog: Path | Sequence[Path],
    directory: Path,
    top: str = "liftquant_decoder",
    simulator: str = "verilator",
    waves: bool = False,
    ports: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    includes: Sequence[Path] = (),
) -> Model:
    """Build Verilog for a simulator; an identical earlier build in `directory` is used again.

    Args:
        verilog: the source file, or several.
        directory: to build in; ``build.log`` is written there.
        top: the top module.
        simulator: ``verilator`` or ``icarus``.
        waves: make the model able to record waveforms, which slows it down.
        ports: where the design's port names differ from `PORTS`, the names that differ.
        arguments: more for the simulator's compiler, such as ``-Wno-fatal`` or ``--timing``.
        includes: folders of included files.

    Raises:
        LiftError: a tool is missing, or the build fails; the end of its log is quoted.
    """
    if simulator == "verilator":
        arguments = (*_VERILATOR_ARGUMENTS, *arguments)
    environment = tool_environment(simulator, arguments)
    directory = directory.resolve()
    sources = [verilog] if isinstance(verilog, Path) else list(verilog)
    folders = tuple(folder.resolve() for folder in includes)
    model = Model(simulator, directory, top, waves, 0.0, {**PORTS, **(ports or {})}, folders)
    stamp_path = directory / "build.json"
    request = {
        "do": "build",
        "simulator": simulator,
        "sources": [str(source.resolve()) for source in sources],
        "includes": [str(folder) for folder in folders],
        "top": top,
        "directory": str(directory),
        "arguments": list(arguments),
        "waves": waves,
    }
    stamp = {**request, "sha256": _digest(sources, folders)}
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
    """Run the bench on a built model; `run_passes` with one pass.

    Args:
        model: from `build`.
        stimulus: what to send and expect.
        waves: record a waveform file (VCD; FST with Icarus); its path is in the result.
        name: of the folder under the model's directory for vectors, log and result.

    Raises:
        LiftError: the simulator fails, or the model cannot record waveforms.
    """
    (result,) = run_passes(model, [Pass(stimulus)], Resets(), waves, name)
    return result


def run_passes(
    model: Model, passes: Sequence[Pass], resets: Resets, waves: bool = False, name: str = "run"
) -> list[BenchResult]:
    """Run the bench once for every pass, in one simulation.

    Returns:
        A result for each pass; fewer where passes end at the first failure.

    Raises:
        LiftError: the simulator fails, or the model cannot record waveforms.
    """
    if waves and not model.waves:
        raise LiftError("this model was built without waveforms; build it with waves=True")
    directory = model.directory / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    _link_data(model, directory)
    files = [
        {part: directory / f"{part}-{n}.{suffix}" for part, suffix in _PASS_FILES.items()}
        for n in range(len(passes))
    ]
    for one, paths in zip(passes, files, strict=True):
        save_stimulus(one.stimulus, paths["stimulus"])
    job = directory / "job.json"
    write_json(
        job,
        {
            "ports": dict(model.ports),
            "simulator": model.simulator,
            "reset": resets.kind,
            "stop_at_failure": not resets.between,
            "traced": waves,  # a run that records a waveform is slow in any case
            "passes": [
                {**{part: str(path) for part, path in paths.items()}, "broken_off": p.broken_off}
                for p, paths in zip(passes, files, strict=True)
            ],
        },
    )
    dump = directory / ("dump.vcd" if model.simulator == "verilator" else "dump.fst")
    seed = passes[0].stimulus.seed
    request = {
        "do": "run",
        "simulator": model.simulator,
        "top": model.top,
        "directory": str(model.directory),
        "run_directory": str(directory),
        "seed": seed,
        "plusargs": _plusargs(model.simulator, dump, seed, resets.random_start),
        "waves": waves,
    }
    environment = tool_environment(model.simulator)
    environment[JOB_VARIABLE] = str(job)
    log = directory / "run.log"
    status = _child(request, log, environment)
    if status or not files[0]["result"].exists():
        raise LiftError(f"{model.simulator} gave no result for {model.top}; {_tail(log)}")
    found = [
        BenchResult.from_fields(read_json(paths["result"]))
        for paths in files
        if paths["result"].exists()
    ]
    return [replace(result, waves=str(dump)) if waves else result for result in found]


def _plusargs(simulator: str, dump: Path, seed: int, random_start: bool) -> list[str]:
    if simulator == "icarus":
        return [f"+dumpfile_path={dump}"]
    # Verilator's seeds are positive and have 31 bits
    return ["+verilator+rand+reset+2", f"+verilator+seed+{seed % (2**31 - 1) + 1}"] * random_start


def _link_data(model: Model, directory: Path) -> None:
    """Put what lies beside the sources within reach of a run, whose own folder it starts in."""
    for folder in model.includes:
        for path in folder.iterdir():
            link = directory / path.name
            if not link.exists():
                link.symlink_to(path)


def _digest(sources: Sequence[Path], includes: Sequence[Path]) -> str:
    """Over all that a build reads."""
    beside = [p for f in includes for p in sorted(f.iterdir()) if p.suffix in _HDL and p.is_file()]
    total = hashlib.sha256()
    for path in [*sources, *beside]:
        total.update(f"{path.resolve()} {path.stat().st_size}\n".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


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
