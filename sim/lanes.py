"""The bench on many lanes of a simulated netlist at once: a program of its own for each."""

from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from typing import Any, TypeVar

from hw.netlist_sim import NetlistSimulator

Result = TypeVar("Result")
_PORTS = ("rst", "i_valid", "i_payload", "o_ready")


class _Step:
    """Awaiting it hands over to the other lanes."""

    def __await__(self) -> Generator[None, None, None]:
        yield


_STEP = _Step()


class LaneAdapter:
    """Lane number `lane` as the bench drives a design; it also has the port ``rst``."""

    simulator = "netlist"

    def __init__(self, lanes: "Lanes", lane: int) -> None:
        self._lanes = lanes
        self.lane = lane

    def set(self, port: str, value: int) -> None:
        self._lanes.drive(port, self.lane, value)

    def get(self, port: str) -> int:
        return self._lanes.read(port)[self.lane]

    def settle(self) -> Awaitable[Any]:
        return _STEP

    def edge(self) -> Awaitable[Any]:
        return _STEP


class Lanes:
    """Runs coroutines that take turns of `settle` and `edge`, as the bench does, in lock step.

    Args:
        simulator: a decoder; its ports are those of `hw.export`, the bench's with ``__``.
    """

    def __init__(self, simulator: NetlistSimulator) -> None:
        self.simulator = simulator
        self.cycle = 0  # clock edges so far
        self._driven = {port: [0] * simulator.lanes for port in _PORTS}
        self._changed = set(_PORTS)
        self._read: dict[str, list[int]] = {}

    def drive(self, port: str, lane: int, value: int) -> None:
        self._driven[port][lane] = value
        self._changed.add(port)

    def read(self, port: str) -> list[int]:
        """An output of every lane."""
        values = self._read.get(port)
        if values is None:
            values = self._read[port] = self.simulator.get(port.replace("_", "__", 1))
        return values

    def run(
        self,
        lanes: Iterable[int],
        program: Callable[[LaneAdapter], Coroutine[Any, Any, Result]],
        after_edge: Callable[[], None] = lambda: None,
    ) -> dict[int, Result]:
        """Run `program` on each of `lanes` until all have ended; returns what each gave.

        Args:
            lanes: numbers of lanes; the others' inputs stay as they are.
            program: makes the coroutine for a lane; its first step is to settle.
            after_edge: called after every clock edge.
        """
        running = {lane: program(LaneAdapter(self, lane)) for lane in lanes}
        ended: dict[int, Result] = {}
        while running:
            _resume(running, ended)
            if not running:
                break
            self._settle()
            _resume(running, ended)
            self.simulator.edge()
            self.cycle += 1
            after_edge()
        return ended

    def _settle(self) -> None:
        for port in self._changed:
            self.simulator.set(port.replace("_", "__", 1), self._driven[port])
        self._changed.clear()
        self._read.clear()
        self.simulator.settle()


def _resume(running: dict[int, Coroutine[Any, Any, Result]], ended: dict[int, Result]) -> None:
    """Run every program to its next step; those that end leave `running`."""
    for lane, coroutine in list(running.items()):
        try:
            coroutine.send(None)
        except StopIteration as stop:
            ended[lane] = stop.value
            del running[lane]


async def reset(design: LaneAdapter, edges: int = 2) -> None:
    """Reset a lane for so many clock edges, its inputs quiet."""
    for port in ("i_valid", "i_payload", "o_ready"):
        design.set(port, 0)
    design.set("rst", 1)
    for _ in range(edges):
        await design.settle()
        await design.edge()
    design.set("rst", 0)
