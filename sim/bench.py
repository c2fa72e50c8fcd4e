"""The one bench body: drives a stream in, checks the stream out, on any simulator.

A cycle is: set inputs with the clock low, let the design settle, read handshakes, clock edge. The
order is the same on every simulator, so are the random numbers, hence so is every cycle.
"""

import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from sim.result import BenchResult, Mismatch
from sim.stalls import flow
from sim.stimulus import Stimulus

_RHYTHM = (1 << 61) - 1  # a prime


class UnknownValueError(Exception):
    """A port read as X or Z."""


class Adapter(Protocol):
    """A design in a simulator: two stream ports and a clock."""

    simulator: str

    def set(self, port: str, value: int) -> None:
        """Drive ``i_valid``, ``i_payload`` or ``o_ready``."""

    def get(self, port: str) -> int:
        """Read ``i_ready``, ``o_valid`` or ``o_payload``, unsigned.

        Raises:
            UnknownValueError: the port has X or Z bits.
        """

    def settle(self) -> Awaitable[Any]:
        """Clock low, and combinational logic up to date."""

    def edge(self) -> Awaitable[Any]:
        """The rising clock edge."""


@dataclass
class _Scoreboard:
    """Compares payloads in order; unpacks them only where they differ."""

    stimulus: Stimulus
    received: int = 0
    weights: int = 0
    mismatches: int = 0
    first: Mismatch | None = None
    masks: int = field(init=False)
    per_beat: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.masks = len(self.stimulus.masks)
        self.per_beat = [m.bit_length() // self.stimulus.field for m in self.stimulus.masks]

    def take(self, payload: int) -> None:
        beat = self.received % self.masks
        expected = self.stimulus.expected[self.received]
        if (payload ^ expected) & self.stimulus.masks[beat]:
            self._differ(beat, expected, payload)
        self.weights += self.per_beat[beat]
        self.received += 1

    def _differ(self, beat: int, expected: int, payload: int) -> None:
        for index in range(self.per_beat[beat]):
            want, got = self._weight(expected, index), self._weight(payload, index)
            if want == got:
                continue
            self.mismatches += 1
            if self.first is None:
                lane, weight = divmod(index, self.stimulus.group)
                stream = self.received // self.masks
                self.first = Mismatch(stream, beat, lane, weight, want, got)

    def _weight(self, payload: int, index: int) -> int:
        width = self.stimulus.field
        bits = payload >> width * index & (1 << width) - 1
        return bits - (bits >> width - 1 << width)


async def exercise(design: Adapter, stimulus: Stimulus, to_first: bool = False) -> BenchResult:
    """Send every input beat, check every output beat, then watch for surplus ones.

    The design must be out of reset and idle. Never hangs: a design that stops is a failure after
    `patience` cycles. With `to_first`, the first beat with a wrong weight ends it.
    """
    started = time.perf_counter()
    run = _Run(design, stimulus, to_first)
    try:
        failure = await run.transfer()
        if failure is None and not run.ended:
            failure = await run.drain()
    except UnknownValueError as error:
        failure = f"cycle {run.cycle}: {error}"
    board = run.board
    first_in, first_out = run.first_in, run.first_out
    return BenchResult(
        simulator=design.simulator,
        seed=stimulus.seed,
        stalls=stimulus.stalls,
        weights=board.weights,
        beats=board.received,
        mismatches=board.mismatches,
        first_mismatch=board.first,
        failure=failure,
        cycles=0 if first_in is None else max(run.last_out, first_in) - first_in + 1,
        latency=None if first_in is None or first_out is None else first_out - first_in,
        seconds=time.perf_counter() - started,
        wrong_at=run.cycle if run.wrong_at is None and failure else run.wrong_at,
        waits=(run.waits_in, run.waits_out),
        rhythm=run.rhythm,
    )


async def break_off(design: Adapter, stimulus: Stimulus, beats: int) -> None:
    """Send `beats` input beats, take output now and then, and leave the design as it then is.

    Ends early where the design takes none for `patience` cycles. What comes out is not checked.
    """
    chance = Random(stimulus.seed).random
    sent = waited = 0
    while sent < beats and waited <= stimulus.patience:
        design.set("i_payload", stimulus.inputs[sent])
        design.set("i_valid", 1)
        design.set("o_ready", int(chance() < 0.5))
        await design.settle()
        taken = design.get("i_ready")
        sent, waited = sent + taken, 0 if taken else waited + 1
        await design.edge()


class _Run:
    """The state of one run; cycle numbers count clock edges from the start of the run."""

    def __init__(self, design: Adapter, stimulus: Stimulus, to_first: bool) -> None:
        self.design = design
        self.stimulus = stimulus
        self.to_first = to_first
        self.board = _Scoreboard(stimulus)
        self.cycle = 0
        self.first_in: int | None = None
        self.first_out: int | None = None
        self.last_out = -1
        self.wrong_at: int | None = None  # when the first mismatch came
        self.waits_in = self.waits_out = 0  # cycles in which a beat waited for ready
        self.rhythm = 0
        self.held: int | None = None  # a payload that waits for ready

    async def transfer(self) -> str | None:
        """Run until all inputs are taken and all outputs received; returns what went wrong."""
        stimulus, board = self.stimulus, self.board
        # local names and few calls: this loop runs some 35 000 times a second
        put, get = self.design.set, self.design.get
        settle, edge = self.design.settle, self.design.edge
        inputs, total_in, total_out = stimulus.inputs, len(stimulus.inputs), len(stimulus.expected)
        random, longest = Random(stimulus.seed), stimulus.longest_stall
        flow_in, flow_out = (flow(random, stall, longest) for stall in stimulus.stalls)
        sent = idle = 0
        presenting = was_presenting = was_ready = False
        put("i_valid", 0)
        put("o_ready", 0)
        while sent < total_in or board.received < total_out:
            if not presenting and sent < total_in and flow_in():
                put("i_payload", inputs[sent])
                presenting = True
            if presenting is not was_presenting:
                put("i_valid", int(presenting))
                was_presenting = presenting
            ready = flow_out()
            if ready is not was_ready:
                put("o_ready", int(ready))
                was_ready = ready
            await settle()
            idle += ready and (presenting or sent == total_in)
            if presenting:
                if get("i_ready"):
                    if not sent:
                        self.first_in = self.cycle
                    sent += 1
                    self._beat(0)
                    presenting = False
                    idle = 0
                else:
                    self.waits_in += 1
            before = board.received
            problem = self._look(ready)
            if problem is not None:
                return self._at(problem)
            if self.ended:
                return None
            if board.received > before:
                idle = 0
            elif idle > stimulus.patience:
                return self._at(
                    f"no transfer in {idle} cycles that allowed one: {sent} of {total_in} input "
                    f"beats taken, {before} of {total_out} output beats received"
                )
            await edge()
            self.cycle += 1
        return None

    @property
    def ended(self) -> bool:
        """A wrong weight was found, and one is enough."""
        return self.to_first and self.board.first is not None

    def _look(self, ready: bool) -> str | None:
        """Check the output of a settled cycle; takes its payload where ready says so."""
        if not self.design.get("o_valid"):
            return None if self.held is None else "output valid fell before ready"
        payload = self.design.get("o_payload")
        if self.held is not None and payload != self.held:
            return "output payload changed while it waited for ready"
        if not ready:
            self.held = payload
            self.waits_out += 1
            return None
        total = len(self.stimulus.expected)
        if self.board.received == total:
            return f"surplus output beat after the expected {total}"
        self.board.take(payload)
        if self.wrong_at is None and self.board.first is not None:
            self.wrong_at = self.cycle
        self.held = None
        if self.first_out is None:
            self.first_out = self.cycle
        self.last_out = self.cycle
        self._beat(1)
        return None

    def _beat(self, side: int) -> None:
        """Count a transfer of this cycle in the rhythm."""
        self.rhythm = (self.rhythm * 31 + 2 * self.cycle + side) % _RHYTHM

    async def drain(self) -> str | None:
        """Everything expected has arrived; nothing else may."""
        design = self.design
        design.set("i_valid", 0)
        design.set("o_ready", 1)
        for _ in range(self.stimulus.drain):
            await design.settle()
            problem = self._look(True)
            if problem is not None:
                return self._at(problem)
            await design.edge()
            self.cycle += 1
        return None

    def _at(self, problem: str) -> str:
        return f"cycle {self.cycle}: {problem} (seed {self.stimulus.seed})"
