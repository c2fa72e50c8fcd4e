"""What went in and out of a lane, and when."""

from collections.abc import Awaitable
from typing import Any

from sim.lanes import LaneAdapter


class Recorder:
    """A lane that remembers its transfers.

    Attributes:
        taken: the cycle of every input transfer.
        given: cycle and payload of every output transfer.
    """

    simulator = LaneAdapter.simulator

    def __init__(self, design: LaneAdapter) -> None:
        self._design = design
        self._set = {"i_valid": 0, "o_ready": 0}
        self._cycle = 0
        self.taken: list[int] = []
        self.given: list[tuple[int, int]] = []

    def set(self, port: str, value: int) -> None:
        self._set[port] = value
        self._design.set(port, value)

    def get(self, port: str) -> int:
        return self._design.get(port)

    def settle(self) -> Awaitable[Any]:
        return self._design.settle()

    def edge(self) -> Awaitable[Any]:
        if self._set["i_valid"] and self.get("i_ready"):
            self.taken.append(self._cycle)
        if self._set["o_ready"] and self.get("o_valid"):
            self.given.append((self._cycle, self.get("o_payload")))
        self._cycle += 1
        return self._design.edge()
