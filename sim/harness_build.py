"""Compiles a decoder's Verilog, and the C++ that drives it, into the program of a `Harness`."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from algo.errors import LiftError
from algo.files import written_aside
from hw.geometry import Geometry
from hw.output import SUMS
from sim.harness import Harness
from sim.harness_source import PREFIX, harness_source
from sim.toolchain import tool_environment

_VERILATOR = (
    "--cc", "--prefix", PREFIX, "-Wno-WIDTH", "-O3", "--x-assign", "fast", "--x-initial", "fast",
)  # fmt: skip
# -O1 compiles in half the time of -O2, and the program is as fast
_COMPILER = ("g++", "-std=gnu++17", "-O1", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE=0")
_RUNTIME = ("verilated.cpp", "verilated_threads.cpp")  # Verilator's own, the same for all models
_RUNTIME_LOCK = Lock()
_TAIL = 30  # lines of a log that an error quotes


def build_harness(
    verilog: Path, geometry: Geometry, directory: Path, top: str = "liftquant_decoder"
) -> Harness:
    """Compile Verilog and harness; an identical earlier build in `directory` is used again.

    Args:
        verilog: a decoder with the ports of `hw.decoder.Decoder`, without scale or width.
        geometry: of the decoder.
        directory: to build in.
        top: the top module.

    Raises:
        LiftError: a tool is missing, or Verilator or the compiler fails; the log's end is quoted.
    """
    if geometry.output != SUMS:
        raise LiftError("the decoder scales or narrows its sums; a harness compares plain sums")
    environment = tool_environment("verilator")
    source = harness_source(geometry)
    recipe = [verilog.read_text(encoding="utf-8"), source, top, *_VERILATOR, *_COMPILER]
    recipe.append(_said(["verilator", "--version"], environment))
    digest = hashlib.sha256("\0".join(recipe).encode()).hexdigest()
    directory = directory.resolve()
    program = directory / f"harness-{digest[:16]}"
    if program.exists():
        return Harness(program, geometry)
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / f"{program.name}.log"
    include = _includes(environment)
    with tempfile.TemporaryDirectory(prefix=".build.", dir=directory) as name:
        folder = Path(name)
        verilate = ["verilator", *_VERILATOR, "--top-module", top, "--Mdir", str(folder / "model")]
        _call([*verilate, str(verilog.resolve())], log, environment)
        # one translation unit: the headers are most of the work of compiling a small model
        parts = sorted((folder / "model").glob("*.cpp"))
        whole = folder / "whole.cpp"
        included = "".join(f'#include "model/{path.name}"\n' for path in parts)
        whole.write_text(source + included, encoding="utf-8")
        compiler = [*_COMPILER, *include, f"-I{folder / 'model'}", "-pthread"]
        inputs = [str(path) for path in (whole, *_runtime(directory, include, environment))]
        _call([*compiler, *inputs, "-o", str(folder / "program")], log, environment)
        os.replace(folder / "program", program)
    return Harness(program, geometry)


def _includes(environment: dict[str, str]) -> list[str]:
    root = Path(_said(["verilator", "--getenv", "VERILATOR_ROOT"], environment))
    return [f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}"]


def _runtime(directory: Path, include: list[str], environment: dict[str, str]) -> list[Path]:
    """Object files of Verilator's runtime, compiled where they are missing."""
    objects = []
    with _RUNTIME_LOCK:  # of builds side by side one compiles, the others wait
        for name in _RUNTIME:
            source = Path(include[0].removeprefix("-I")) / name
            text = "\0".join([source.read_text("utf-8"), *_COMPILER])
            path = directory / f"{source.stem}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.o"
            if not path.exists():
                with written_aside(path) as aside:
                    command = [*_COMPILER, *include, "-c", str(source), "-o", str(aside)]
                    _call(command, directory / f"{source.stem}.log", environment)
            objects.append(path)
    return objects


def _said(command: Sequence[str], environment: dict[str, str]) -> str:
    """What a program prints."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LiftError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def _call(command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as out:
        status = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, check=False,
        ).returncode  # fmt: skip
    if status:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
        raise LiftError("\n".join([f"{command[0]} failed; the log {log} ends:", *lines]))
