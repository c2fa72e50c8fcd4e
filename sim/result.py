"""What a bench found, as plain values."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Mismatch:
    """One decoded weight that is not what was expected.

    Attributes:
        stream: index of the stream.
        beat: output beat within the stream.
        lane: group within the beat.
        weight: index of the weight within its group.
        expected: the integer the oracle gives.
        got: the integer the design gave.
    """

    stream: int
    beat: int
    lane: int
    weight: int
    expected: int
    got: int


@dataclass(frozen=True)
class BenchResult:
    """The outcome of one run.

    Attributes:
        simulator: which simulator ran it.
        seed: of the stalls.
        stalls: probabilities of a stalled cycle at the input and at the output.
        weights: weights compared.
        beats: output beats received.
        mismatches: weights that differ.
        first_mismatch: the first of them.
        failure: how the design broke the stream protocol or stopped, where it did.
        cycles: clock edges from the one that takes the first input beat to the one that transfers
            the last output beat, counting both.
        latency: clock edges from the one that takes the first input beat to the one that transfers
            the first output beat, counting the second only; None without output.
        seconds: wall-clock time of the run, without building.
        waves: path of the waveform file, where one was asked for.
        wrong_at: clock edges from the start of the run to the first mismatch, or to the failure.
        waits: cycles in which a beat waited for ready, at the input and at the output.
        rhythm: checksum over the cycles of all transfers, of both sides; equal where every beat
            moved in the same cycle.
    """

    simulator: str
    seed: int
    stalls: tuple[float, float]
    weights: int
    beats: int
    mismatches: int
    first_mismatch: Mismatch | None
    failure: str | None
    cycles: int
    latency: int | None
    seconds: float
    waves: str | None = None
    wrong_at: int | None = None
    waits: tuple[int, int] = (0, 0)
    rhythm: int = 0

    @property
    def passed(self) -> bool:
        """Every expected weight arrived, equal, and the protocol held."""
        return not self.mismatches and self.failure is None

    def summary(self) -> str:
        """One line for a log or an assertion, with the seed that reproduces it."""
        where = f"{self.simulator}, seed {self.seed}, stalls {self.stalls}"
        done = f"{self.weights} weights in {self.cycles} cycles ({where})"
        if self.passed:
            return f"passed: {done}"
        found = [f"FAILED: {done}"]
        if self.first_mismatch is not None:
            found.append(f"{self.mismatches} weights differ, first {self.first_mismatch}")
        if self.failure is not None:
            found.append(self.failure)
        return "; ".join(found)

    def to_json(self) -> str:
        """The fields as one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "BenchResult":
        """Build from parsed `to_json`."""
        first = fields["first_mismatch"]
        values = dict(fields)
        values["first_mismatch"] = None if first is None else Mismatch(**first)
        values["stalls"] = tuple(fields["stalls"])
        values["waits"] = tuple(fields["waits"])
        return cls(**values)
