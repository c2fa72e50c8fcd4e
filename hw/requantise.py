"""Sums and multipliers in, scaled integer weights out."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.counting import last_of
from hw.geometry import Geometry
from hw.output import ACC_WIDTH, Scale
from hw.resize import sums_of
from hw.stages import stage_moves

_MAGNITUDE = ACC_WIDTH - 1


class Requantise(wiring.Component):  # type: ignore[misc]
    """``acc * multiplier / 2**shift``, rounded half away from zero, saturated to w bits.

    Axis ``in``: a stream has one multiplier, which stays at ``scale`` until the stream's last beat
    takes it along. Axis ``out``: every weight position of a stream has its own, and every beat
    takes P*d of them. A beat waits for its multipliers.

    Latency: 3 edges (magnitudes, products, rounded results). Throughput: one beat per cycle.

    Ports:
        i: stream In, payload of `sums_bits`; ``ready`` depends on ``scale.valid`` and ``o.ready``.
        scale: stream In, payload of `scale_bits`: unsigned multipliers of M bits, axis ``in``: one;
            axis ``out``: that of weight n of the beat in bits [Mn, Mn + M), those of lanes beyond
            the last group ignored. ``ready`` depends on ``i.valid`` and ``o.ready``.
        o: stream Out, payload of `payload_bits`: weight n in bits [w*n, w*n + w). ``valid`` and the
            payload are registers.
    """

    def __init__(self, geometry: Geometry, scale: Scale) -> None:
        self.geometry = geometry
        self.scaling = scale
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(geometry.sums_bits))),
                "scale": In(stream.Signature(unsigned(geometry.scale_bits))),
                "o": Out(stream.Signature(unsigned(geometry.payload_bits))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        both = self.i.valid & self.scale.valid
        valids, moves = stage_moves(m, 3, both, self.o.ready)
        whole = self.scaling.axis == "out"
        last = last_of(m, self.geometry.beats_out, both & moves[0], "beats_left")
        m.d.comb += [
            self.i.ready.eq(moves[0] & self.scale.valid),
            self.scale.ready.eq(moves[0] & self.i.valid & (1 if whole else last)),
            self.o.valid.eq(valids[-1]),
        ]
        bits = self.scaling.multiplier_bits
        factors = [
            self._held(m, moves[0], self.scale.payload[at : at + bits], f"multiplier_{n}")
            for n, at in enumerate(range(0, self.geometry.scale_bits, bits))
        ]
        sums = sums_of(self.i.payload)
        if not whole:
            factors *= len(sums)
        weights = [
            self._weight(m, moves, value, factor, n)
            for n, (value, factor) in enumerate(zip(sums, factors, strict=True))
        ]
        m.d.comb += self.o.payload.eq(Cat(weights))
        return m

    def _weight(
        self, m: Module, moves: list[Signal], value: Value, factor: Signal, n: int
    ) -> Signal:
        width, shift = self.geometry.output.width, self.scaling.shift
        negative = self._held(m, moves[0], value < 0, f"negative_{n}")
        magnitude = self._held(m, moves[0], abs(value)[:_MAGNITUDE], f"magnitude_{n}")
        product = self._held(m, moves[1], magnitude * factor, f"product_{n}")
        minus = self._held(m, moves[1], negative, f"minus_{n}")
        rounded = (product + (1 << shift - 1)) >> shift
        # one more on the negative side
        limit = (1 << width - 1) - 1 + minus
        bounded = Mux(rounded > limit, limit, rounded)
        result = Signal(width, name=f"weight_{n}", reset_less=True)
        with m.If(moves[2]):
            m.d.sync += result.eq(Mux(minus, -bounded, bounded))
        return result

    @staticmethod
    def _held(m: Module, move: Value, value: Value, name: str) -> Signal:
        held = Signal(len(value), name=name, reset_less=True)
        with m.If(move):
            m.d.sync += held.eq(value)
        return held
