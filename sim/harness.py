"""Runs a decoder that was compiled into a program which checks streams as fast as they are fed.

The words and the integers that `algo.decode` makes of them go in through a pipe, in pieces, so that
neither memory nor disk holds a whole layer; the counts come out. Tens of times the rate of a bench
in Python, for decoders with the ports of `hw.decoder.Decoder`.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from algo.decode import Accs
from algo.errors import LiftError
from algo.packing import Words
from hw.geometry import Geometry
from sim.harness_source import TURN_STREAMS

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
