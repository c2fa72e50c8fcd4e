"""Harness: credits and the output queue lose nothing, whatever projection is between them."""

from collections.abc import Mapping

from amaranth.hdl import Array, Assert, Assume, Module, Signal, Value, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.credit import Credited
from hw.formal_stream import assert_stable
from hw.geometry import Geometry
from hw.projection import Projection
from hw.shared import SharedProjection


class FormalCredit(wiring.Component):  # type: ignore[misc]
    """The gate and the queue in an environment that does anything, and what they owe.

    The projection between them is cut out (`cuts`): its ``ready``, its beats and when they come are
    free, as long as it gives no beat that it has not taken, which its own proof shows.

    What enters the projection is what is taken at ``i``, and its output is always taken. Places are
    exactly the credits, the beats in the projection and those in the queue, so none is ever written
    over. One bit of one beat, chosen by ``mark`` and ``at`` at any time, is followed: as many beats
    as were in the queue before it come out before it, then its own with that bit in its place. So
    nothing is lost, doubled, made up or reordered. Offers are stable; it never blocks itself.

    Args:
        geometry: with ``flow=credit``.
        part: what is examined.
    """

    def __init__(self, geometry: Geometry, part: type[Credited] = Credited) -> None:
        self.geometry = geometry
        shared = geometry.architecture.kind == "shared"
        self.dut = part(geometry, (SharedProjection if shared else Projection)(geometry))
        self.places = geometry.queue_beats
        bits = geometry.sums_bits
        counts = In(range(self.places + 1))
        super().__init__(
            {
                "i_valid": In(1),
                "i_payload": In(unsigned(geometry.window_bits)),
                "o_ready": In(1),
                "mark": In(1),
                "at": In(range(bits)),
                **{name: In(1) for name in ("enters", "enters_ready", "leaves", "leaves_ready")},
                "enters_payload": In(unsigned(geometry.window_bits)),
                "leaves_payload": In(unsigned(bits)),
                "credits": counts,
                "level": counts,
                "write_at": In(range(self.places)),
                "read_at": In(range(self.places)),
                **{f"place_{n}": In(unsigned(bits)) for n in range(self.places)},
            }
        )

    @property
    def cuts(self) -> list[str]:
        """Outputs of the projection, which are free."""
        return [f"dut.projection.{name}" for name in ("i__ready", "o__valid", "o__payload")]

    @property
    def probes(self) -> Mapping[str, str]:
        """Signals by the port that reads them: the projection's ports, registers, the queue."""
        inner = {
            "enters": "i__valid", "enters_ready": "i__ready", "enters_payload": "i__payload",
            "leaves": "o__valid", "leaves_ready": "o__ready", "leaves_payload": "o__payload",
        }  # fmt: skip
        own = ("credits", "level", "write_at", "read_at")
        return {
            **{port: f"dut.projection.{name}" for port, name in inner.items()},
            **{name: f"dut.{name}" for name in own},
            **{f"place_{n}": f"dut.queue[{n}]" for n in range(self.places)},
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        places = self.places
        m.d.comb += [
            dut.i.valid.eq(self.i_valid),
            dut.i.payload.eq(self.i_payload),
            dut.o.ready.eq(self.o_ready),
        ]
        taken, given = self.i_valid & dut.i.ready, dut.o.valid & self.o_ready
        under_way = Signal(range(places + 1))  # beats in the projection
        held = Signal(range(places + 1))  # beats in the queue
        m.d.comb += Assume(~self.leaves | (under_way != 0))
        m.d.sync += [
            under_way.eq(under_way + taken - self.leaves),
            held.eq(held + self.leaves - given),
        ]

        followed = Signal()
        value = Signal()
        place = Signal(len(self.at))
        before = Signal(range(places + 1))  # beats in the queue ahead of the followed
        with m.If(self.leaves & self.mark & ~followed & (self.at < len(self.leaves_payload))):
            m.d.sync += [
                followed.eq(1),
                value.eq(self.leaves_payload.bit_select(self.at, 1)),
                place.eq(self.at),
                before.eq(held - given),
            ]
        with m.Elif(given & followed):
            m.d.sync += [before.eq(before - 1), followed.eq(before != 0)]

        m.d.comb += [
            Assert((self.enters & self.enters_ready) == taken),
            Assert(self.enters_payload == self.i_payload),
            Assert(self.leaves_ready),
            Assert(dut.o.valid == (held != 0)),
            Assert(dut.i.ready | ~self.enters_ready | dut.o.valid | (under_way != 0)),
        ]
        with m.If(given & followed & (before == 0)):
            m.d.comb += Assert(dut.o.payload.bit_select(place, 1) == value)
        assert_stable(m, dut.o.valid, self.o_ready, dut.o.payload)
        # what ties the counts to the registers
        m.d.comb += [
            Assert(self.credits + self.level + under_way == places),
            Assert(self.level == held),
            Assert(self.write_at == (self.read_at + held)[: len(self.write_at)]),
        ]
        with m.If(followed):
            m.d.comb += [
                Assert(before < held),
                Assert(self._stored(before).bit_select(place, 1) == value),
            ]
        return m

    def _stored(self, behind: Value) -> Value:
        """The beat so many places behind the queue's oldest."""
        stored = Array(getattr(self, f"place_{n}") for n in range(self.places))
        chosen: Value = stored[(self.read_at + behind)[: len(self.read_at)]]
        return chosen
