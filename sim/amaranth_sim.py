"""The bench on Amaranth's own simulator: no build, no Verilog, about a thousand groups a second."""

from collections.abc import Awaitable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from amaranth.sim import Simulator

from sim.bench import exercise
from sim.result import BenchResult
from sim.stimulus import Stimulus


class _Now:
    """Awaiting it takes no time: Amaranth settles combinational logic at every read."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


class AmaranthAdapter:
    """A component with stream ports ``i`` and ``o`` inside a testbench."""

    simulator = "amaranth"

    def __init__(self, context: Any, component: Any) -> None:
        self._context = context
        self._ports = {
            f"{name}_{part}": getattr(getattr(component, name), part)
            for name in ("i", "o")
            for part in ("valid", "ready", "payload")
        }
        self._now = _Now()

    def set(self, port: str, value: int) -> None:
        self._context.set(self._ports[port], value)

    def get(self, port: str) -> int:
        return int(self._context.get(self._ports[port]))

    def settle(self) -> Awaitable[Any]:
        return self._now

    def edge(self) -> Awaitable[Any]:
        ticked: Awaitable[Any] = self._context.tick()
        return ticked


def run_amaranth(component: Any, stimulus: Stimulus, waves: Path | None = None) -> BenchResult:
    """Run the bench on an Amaranth component with flat stream ports ``i`` and ``o``.

    Args:
        component: elaborated here, so it cannot be used again.
        stimulus: what to send and expect.
        waves: a VCD file to write.
    """
    results: list[BenchResult] = []

    async def testbench(context: Any) -> None:
        results.append(await exercise(AmaranthAdapter(context, component), stimulus))

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    if waves is None:
        simulator.run()
    else:
        waves.parent.mkdir(parents=True, exist_ok=True)
        with simulator.write_vcd(str(waves)):
            simulator.run()
    (result,) = results
    return result if waves is None else replace(result, waves=str(waves))
