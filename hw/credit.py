"""Credits and an output queue: flow control that no wide enable depends on."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.geometry import Geometry


class Credited(wiring.Component):  # type: ignore[misc]
    """A projection that never stops, behind a gate and before a queue.

    A beat enters where there is a credit: a place in the queue that no beat occupies or is on its
    way to. The projection's output is then always ready, its stages need no enables, and nothing
    but the queue's read side depends on ``o.ready``.

    Latency: the projection's and one edge more. Throughput: the projection's, since
    `queue_beats` cover the way from the gate to the output and the credit's way back.

    Ports:
        i: stream In, the projection's input. ``ready`` depends on registers only, as long as the
            projection's does where its output is always ready.
        o: stream Out, the projection's output. ``valid`` is a register; the payload is read from
            the queue's memory, which is small enough for LUT RAM, by a register.
    """

    def __init__(self, geometry: Geometry, projection: wiring.Component) -> None:
        self.geometry = geometry
        self.projection = projection
        super().__init__(
            {
                "i": In(stream.Signature(projection.i.payload.shape())),
                "o": Out(stream.Signature(projection.o.payload.shape())),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.projection = projection = self.projection
        places = self.geometry.queue_beats
        m.submodules.queue = queue = Memory(
            shape=projection.o.payload.shape(), depth=places, init=[]
        )
        write, read = queue.write_port(), queue.read_port(domain="comb")

        credits = Signal(range(places + 1), init=places)
        level = Signal(range(places + 1))
        write_at = Signal(range(places))
        read_at = Signal(range(places))
        entered = self.i.valid & self.i.ready
        left = self.o.valid & self.o.ready
        m.d.comb += [
            self.i.ready.eq((credits != 0) & projection.i.ready),
            projection.i.valid.eq((credits != 0) & self.i.valid),
            projection.i.payload.eq(self.i.payload),
            projection.o.ready.eq(1),
            write.addr.eq(write_at),
            write.en.eq(projection.o.valid),
            write.data.eq(projection.o.payload),
            read.addr.eq(read_at),
            self.o.valid.eq(level != 0),
            self.o.payload.eq(read.data),
        ]
        m.d.sync += [
            credits.eq(credits + left - entered),
            level.eq(level + projection.o.valid - left),
            write_at.eq(write_at + projection.o.valid),
            read_at.eq(read_at + left),
        ]
        return m
