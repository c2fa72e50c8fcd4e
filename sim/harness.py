"""A decoder's Verilog compiled into a program that checks streams as fast as they can be fed.

The words and the integers that `algo.decode` makes of them go in through a pipe, in pieces, so that
neither memory nor disk holds a whole layer; the counts come out. Tens of times the rate of a bench
in Python, for decoders with the ports of `hw.decoder.Decoder`.
"""

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np

from algo.decode import Accs
from algo.errors import LiftError
from algo.files import written_aside
from algo.packing import Words
from hw.geometry import Geometry
from sim.harness_source import PREFIX, TURN_STREAMS, harness_source
from sim.toolchain import tool_environment

_VERILATOR = (
    "--cc", "--prefix", PREFIX, "-Wno-WIDTH", "-O3", "--x-assign", "fast", "--x-initial", "fast",
)  # fmt: skip
# -O1 compiles in half the time of -O2, and the program is as fast
_COMPILER = ("g++", "-std=gnu++17", "-O1", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE=0")
_RUNTIME = ("verilated.cpp", "verilated_threads.cpp")  # Verilator's own, the same for all models
_RUNTIME_LOCK = Lock()
_PATIENCE = 1000  # cycles that allow a transfer and see none, after which a design is stuck
_DRAIN = 64  # cycles beyond its latency in which a design could still give surplus beats
_TAIL = 30  # lines of a log that an error quotes


@dataclass(frozen=True)
class FirstWrong:
    """The first weight that differs: its stream, its place there, and both integers."""

    stream: int
    weight: int
    expected: int
    got: int


@dataclass(frozen=True)
class HarnessResult:
    """What a run of a harness counted.

    Attributes:
        streams: streams of which every weight arrived.
        weights: integers compared.
        beats_in: input beats that the design took.
        beats: output beats received.
        cycles: clock edges from the one that takes the first input beat to the one that transfers
            the last output beat, counting both.
        full_rate_cycles: as `cycles`, of the first streams, `TURN_STREAMS` at most, in which
            neither side stalls.
        waits: cycles in which a beat waited for ready, at the input and at the output.
        mismatches: integers that differ.
        first_wrong: the first of them.
        failure: how the design broke the stream protocol or stopped, where it did.
    """

    streams: int
    weights: int
    beats_in: int
    beats: int
    cycles: int
    full_rate_cycles: int
    waits: tuple[int, int]
    mismatches: int
    first_wrong: FirstWrong | None
    failure: str | None

    @property
    def passed(self) -> bool:
        """Every weight that was fed arrived, equal, and the protocol held."""
        return not self.mismatches and self.failure is None


@dataclass(frozen=True)
class Harness:
    """A compiled harness: `program` checks decoders of `geometry`."""

    program: Path
    geometry: Geometry

    def run(
        self,
        pieces: Iterable[tuple[Words, Accs]],
        seed: int = 0,
        stall: float = 0.25,
        options: Sequence[str] = (),
    ) -> HarnessResult:
        """Send the streams of all pieces back to back, compare every weight with ``==``.

        By turns of `TURN_STREAMS` streams neither side stalls, the input does, the output does,
        both do. The cycles of the first turn must be those that the geometry predicts.

        Args:
            pieces: words, uint32 ``(streams, stream_words)``, and what they decode to, int16
                ``(streams, G*d)``, piece by piece.
            seed: of the stalls.
            stall: probability that a cycle stalls, below 1; 0 runs at full rate throughout.
            options: more for the program, plusargs of the design.

        Raises:
            LiftError: shapes do not fit, the probability is out of range, or the program fails.
        """
        if not 0 <= stall < 1:
            raise LiftError(f"stall={stall}: a probability, at least 0 and below 1")
        numbers = (seed, stall, _PATIENCE, self.geometry.latency + _DRAIN)
        command = [str(self.program), *map(str, numbers), *options]
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                command, bufsize=0, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
            )
            assert process.stdin is not None
            try:
                # a program that has seen enough closes its end, and says why
                with process.stdin as pipe, suppress(BrokenPipeError):
                    for words, expected in pieces:
                        left = memoryview(self._records(words, expected))
                        while left:
                            left = left[pipe.write(left) :]
            except BaseException:
                process.kill()
                raise
            finally:
                process.wait()
            output.seek(0)
            found = _result(self.program, process.returncode, output)
        return found if found.failure else replace(found, failure=self._wrong_rate(found))

    def _wrong_rate(self, found: HarnessResult) -> str | None:
        streams = min(found.streams, TURN_STREAMS)
        predicted = self.geometry.cycles(streams) if streams else 0
        if found.full_rate_cycles == predicted:
            return None
        return (
            f"{streams} streams at full rate took {found.full_rate_cycles} cycles, not {predicted}"
        )

    def _records(self, words: Words, expected: Accs) -> bytes:
        """Stream by stream: its words, then its weights."""
        geometry = self.geometry
        shapes = (geometry.stream_words, geometry.groups * geometry.code.group)
        if words.dtype != np.uint32 or expected.dtype != np.int16 or (
            words.shape, expected.shape
        ) != tuple((len(words), n) for n in shapes):  # fmt: skip
            raise LiftError(
                f"words are {words.dtype} of shape {words.shape}, weights {expected.dtype} of "
                f"shape {expected.shape}; {geometry.groups} groups of {geometry.code.name} need "
                f"uint32 (streams, {shapes[0]}) and int16 (streams, {shapes[1]})"
            )
        rows = [
            np.ascontiguousarray(part).view(np.uint8)
            for part in (words.astype("<u4"), expected.astype("<i2"))
        ]
        return np.concatenate(rows, axis=1).tobytes()


def _result(program: Path, status: int, output: IO[bytes]) -> HarnessResult:
    lines = output.read().decode(errors="replace").splitlines()
    try:
        if status:
            raise ValueError
        fields = json.loads(lines[-1])
    except (IndexError, ValueError):
        said = "\n".join(lines[-_TAIL:])
        raise LiftError(f"{program} ended with status {status}; it said: {said}") from None
    place = [fields.pop(key) for key in ("stream", "weight", "expected", "got")]
    first = FirstWrong(*place) if fields["mismatches"] else None
    failure = fields.pop("failure") or None
    waits = tuple(fields.pop("waits"))
    return HarnessResult(**fields, waits=waits, first_wrong=first, failure=failure)


def build_harness(
    verilog: Path, geometry: Geometry, directory: Path, top: str = "liftquant_decoder"
) -> Harness:
    """Compile Verilog and harness; an identical earlier build in `directory` is used again.

    Args:
        verilog: a decoder with the ports of `hw.decoder.Decoder`, without ``scale``.
        geometry: of the decoder.
        directory: to build in.
        top: the top module.

    Raises:
        LiftError: a tool is missing, or Verilator or the compiler fails; the log's end is quoted.
    """
    if geometry.output.scale is not None:
        raise LiftError("the decoder requantises; only sums can be checked in a harness")
    environment = tool_environment("verilator")
    source = harness_source(geometry)
    recipe = [verilog.read_text(encoding="utf-8"), source, top, *_VERILATOR, *_COMPILER]
    recipe.append(_said(["verilator", "--version"], environment))
    digest = hashlib.sha256("\0".join(recipe).encode()).hexdigest()
    program = directory / f"harness-{digest[:16]}"
    if program.exists():
        return Harness(program, geometry)
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / f"{program.name}.log"
    include = _includes(environment)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=directory) as name:
        folder = Path(name)
        verilate = ["verilator", *_VERILATOR, "--top-module", top, "--Mdir", str(folder / "model")]
        _call([*verilate, str(verilog.resolve())], log, environment)
        # one translation unit: the headers are most of the work of compiling a small model
        parts = sorted((folder / "model").glob("*.cpp"))
        whole = folder / "whole.cpp"
        whole.write_text(source + "".join(f'#include "{path}"\n' for path in parts), "utf-8")
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
