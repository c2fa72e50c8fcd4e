"""What the bench saw at the ports in every cycle, kept for a picture of the part that is wrong."""

from collections.abc import Awaitable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from algo.files import read_json, write_json
from sim.bench import Adapter, UnknownValueError

PORTS = ("i_valid", "i_ready", "i_payload", "o_valid", "o_ready", "o_payload")
BEFORE, AFTER = 32, 16  # cycles that are kept around a fault


@dataclass(frozen=True)
class Trace:
    """Ports of the bench, cycle by cycle, as they are at the rising edge that ends the cycle.

    Attributes:
        first: the number of its first cycle, counted as in `BenchResult.wrong_at`.
        taken, given: beats that moved before, at the input and at the output.
        levels: by port one value for every cycle, None where it had X or Z bits.
    """

    first: int
    taken: int
    given: int
    levels: dict[str, list[int | None]]


class Tracing:
    """An adapter like the one it holds, which also keeps what the ports do."""

    def __init__(self, design: Adapter) -> None:
        self._design = design
        self._driven: dict[str, int] = {"i_valid": 0, "i_payload": 0, "o_ready": 0}
        self.simulator = design.simulator
        self._levels: dict[str, list[int | None]] = {port: [] for port in PORTS}

    def set(self, port: str, value: int) -> None:
        self._driven[port] = value
        self._design.set(port, value)

    def get(self, port: str) -> int:
        return self._design.get(port)

    def settle(self) -> Awaitable[Any]:
        return self._design.settle()

    def edge(self) -> Awaitable[Any]:
        self._look()
        return self._design.edge()

    def around(self, cycle: int, before: int, after: int) -> Trace:
        """The cycles from `before` before `cycle` to `after` after it, as far as there are any.

        The cycle in which a bench gave up has no edge; it is looked at here.
        """
        if len(self._levels["i_valid"]) <= cycle:
            self._look()
        first = max(0, cycle - before)
        return Trace(
            first,
            self._moved("i", first),
            self._moved("o", first),
            {port: levels[first : cycle + after + 1] for port, levels in self._levels.items()},
        )

    def _look(self) -> None:
        for port, levels in self._levels.items():
            if port in self._driven:
                levels.append(self._driven[port])
                continue
            try:
                levels.append(self._design.get(port))
            except UnknownValueError:
                levels.append(None)

    def _moved(self, side: str, cycles: int) -> int:
        valid, ready = self._levels[f"{side}_valid"], self._levels[f"{side}_ready"]
        return sum(v == 1 == r for v, r in zip(valid[:cycles], ready[:cycles], strict=True))


def save_trace(trace: Trace, path: Path) -> None:
    """Write as JSON."""
    write_json(path, asdict(trace))


def load_trace(path: Path) -> Trace:
    """Read what `save_trace` wrote.

    Raises:
        LiftError: the file is missing or is not JSON.
    """
    return Trace(**read_json(path))
