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
from cocotb.utils import get_sim_time

from algo.files import read_json, write_json, write_text
from sim.bench import UnknownValueError, break_off, exercise
from sim.stimulus import load_stimulus
from sim.toolchain import JOB_VARIABLE
from sim.trace import AFTER, BEFORE, Tracing, save_trace

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

    async def reset(self, kind: str) -> None:
        """Reset between edges; a ``sync`` reset sees clock edges, an ``async`` one none."""
        await self._step  # Icarus loses what is written at time zero
        for port in ("rst", "i_valid", "i_payload", "o_ready"):
            self.set(port, 0)
        await self.settle()  # an asynchronous reset must see its edge
        self.set("rst", 1)
        for _ in range(RESET_CYCLES):
            await self.settle()
            await (self.edge() if kind == "sync" else self.settle())
        self.set("rst", 0)


@cocotb.test()
async def liftquant_bench(dut: Any) -> None:
    """Run the job that the environment names, pass by pass, and write the results."""
    job = read_json(Path(os.environ[JOB_VARIABLE]))
    adapter = CocotbAdapter(dut, job["ports"], job["simulator"])
    for one in job["passes"]:
        stimulus = load_stimulus(Path(one["stimulus"]))
        await adapter.reset(job["reset"])
        if one["broken_off"]:
            await break_off(adapter, stimulus, one["broken_off"])
            await adapter.reset(job["reset"])
        began = round(get_sim_time("step"))
        watched = Tracing(adapter)
        result = await exercise(watched if job["traced"] else adapter, stimulus)
        cocotb.log.info("%s", result.summary())  # with the seed
        write_text(Path(one["result"]), result.to_json())
        write_json(Path(one["times"]), {"began": began, "steps_per_cycle": 2})
        if job["traced"] and result.wrong_at is not None:
            save_trace(watched.around(result.wrong_at, BEFORE, AFTER), Path(one["trace"]))
        if job["stop_at_failure"] and not result.passed:
            return
