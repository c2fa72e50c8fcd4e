"""What the decoders of other formats share: lanes side by side, one pipeline, one flow control."""

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from algo.errors import LiftError
from hw.stages import stage_moves

Integers = npt.NDArray[np.int64]


class LaneDecoder(wiring.Component):  # type: ignore[misc]
    """Windows in, integer weights out: lanes that do not know of each other.

    Latency: `stages` edges from taking a window to being able to transfer its weights at the next.
    Throughput: one beat per cycle. A stage moves when it is empty or its successor moves, as in
    `hw.projection.Projection`; only valid bits are reset.

    Ports:
        i: stream In, payload of ``lanes * bits``: the window of lane n at ``[bits*n, bits*(n+1))``.
        o: stream Out, payload of ``lanes * weights * width``: signed weights, those of lane 0
            first. ``valid`` and the payload are registers.

    Attributes:
        bits: of one lane's window.
        weights: of one lane's beat.
        width: of one weight, signed.
        stages: registers between ``i`` and ``o``.

    Raises:
        LiftError: there is no lane.
    """

    bits: ClassVar[int]
    weights: ClassVar[int]
    width: ClassVar[int]
    stages: ClassVar[int]

    def __init__(self, lanes: int) -> None:
        if lanes < 1:
            raise LiftError(f"lanes={lanes}: a beat decodes at least one window; use lanes=1")
        self.lanes = lanes
        ports: dict[str, Any] = {
            "i": In(stream.Signature(unsigned(lanes * self.bits))),
            "o": Out(stream.Signature(unsigned(lanes * self.weights * self.width))),
        }
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.prepare(m)
        valids, moves = stage_moves(m, self.stages, self.i.valid, self.o.ready)
        m.d.comb += [self.i.ready.eq(moves[0]), self.o.valid.eq(valids[-1])]
        windows = (self.i.payload.word_select(n, self.bits) for n in range(self.lanes))
        weights = [self.lane(m, Pipeline(m, moves, n), window) for n, window in enumerate(windows)]
        m.d.comb += self.o.payload.eq(Cat(weights))
        return m

    def prepare(self, m: Module) -> None:
        """Add what all lanes share."""

    @abstractmethod
    def lane(self, m: Module, pipe: "Pipeline", window: Value) -> Value:
        """The weights of one window, each of `width` bits, behind `stages` registers."""

    @staticmethod
    @abstractmethod
    def reference(windows: Integers) -> Integers:
        """The integers ``(n, weights)`` that windows, int64 ``(n,)``, stand for."""


class Pipeline:
    """The registers of one lane; reset leaves them alone."""

    def __init__(self, m: Module, moves: list[Signal], lane: int) -> None:
        self._m, self._moves, self._lane = m, moves, lane

    def held(self, stage: int, name: str, value: Value) -> Signal:
        """A register of stage `stage`, counted from 0, of the shape of `value`."""
        register = Signal(value.shape(), name=f"{name}_{self._lane}", reset_less=True)
        with self._m.If(self._moves[stage]):
            self._m.d.sync += register.eq(value)
        return register

    def move(self, stage: int) -> Signal:
        """The condition on which `stage` moves."""
        return self._moves[stage]
