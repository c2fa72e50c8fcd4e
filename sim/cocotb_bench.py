"""The bench inside a Verilog simulator; cocotb loads this module there.

The bench drives the clock itself: inputs change while it is low, handshakes are read before it
rises. Nothing then depends on how a simulator orders events at an edge, and a cycle costs two
timers.
"""

import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import cocotb
from cocotb.handle import Immediate
from cocotb.triggers import Timer

from algo.files import read_json, write_text
from sim.bench import UnknownValueError, exercise
from sim.stimulus import load_stimulus
from sim.toolchain import JOB_VARIABLE

RESET_CYCLES = 2


class CocotbAdapter:
    """A Verilog top level, its ports named by a map from the bench's names."""

    def __init__(self, dut: Any, ports: dict[str, str], simulator: str) -> None:
        self.simulator = simulator
        self._handles = {name: getattr(dut, port) for name, port in ports.items()}
        self._step = Timer(1, "step")  # awaited again and again: making one costs more
        self._clock = self._handles["clk"].set
        self._low, self._high = Immediate(0), Immediate(1)

    def set(self, port: str, value: int) -> None:
        self._handles[port].set(Immediate(value))

    def get(self, port: str) -> int:
        value = self._handles[port].value
        try:
            return int(value)
        except ValueError:
            raise UnknownValueError(f"{port} reads {value}") from None

    def settle(self) -> Awaitable[Any]:
        self._clock(self._low)
        return self._step

    def edge(self) -> Awaitable[Any]:
        self._clock(self._high)
        return self._step

    async def reset(self) -> None:
        await self._step  # Icarus loses what is written at time zero
        self.set("rst", 1)
        for port in ("i_valid", "i_payload", "o_ready"):
            self.set(port, 0)
        for _ in range(RESET_CYCLES):
            await self.settle()
            await self.edge()
        self.set("rst", 0)


@cocotb.test()
async def liftquant_bench(dut: Any) -> None:
    """Run the job that the environment names, and write its result."""
    job = read_json(Path(os.environ[JOB_VARIABLE]))
    adapter = CocotbAdapter(dut, job["ports"], job["simulator"])
    await adapter.reset()
    result = await exercise(adapter, load_stimulus(Path(job["stimulus"])))
    cocotb.log.info("%s", result.summary())  # with the seed
    write_text(Path(job["result"]), result.to_json())
