"""Windows in, integer weights out: one beat per cycle."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.geometry import Geometry
from hw.output import ACC_WIDTH
from hw.stages import stage_moves
from hw.sums import accumulator, add_rank, table
from hw.terms import (
    WeightTerms,
    adder_levels,
    projection_stages,
    reads_parities,
    weight_terms,
)


def projection_ports(geometry: Geometry) -> dict[str, Any]:
    """Windows in at ``i``, sums out at ``o``: the ports of every architecture's projection."""
    return {
        "i": In(stream.Signature(unsigned(geometry.window_bits))),
        "o": Out(stream.Signature(unsigned(geometry.sums_bits))),
    }


class Projection(wiring.Component):  # type: ignore[misc]
    """The small linear projection: P windows of D + V bits to P*d sums of +-taps.

    Architectures ``tables`` and ``tree``. Parities (XORs) are registered first where any index a
    table, then tables of k features each (in a tree, where k is 1, they are not registered), then
    a tree of signed adders, after every `levels` levels. Every register is exactly as wide as the
    values it can hold.

    Latency: `projection_stages(code, architecture)` edges from taking a window to being able to
    transfer its weights at the next. Throughput: one beat per cycle. A stage moves when it is empty
    or its successor moves, so gaps close up while the output waits.

    Ports:
        i: stream In, payload of `window_bits`; ``ready`` depends on ``o.ready``.
        o: stream Out, payload of `sums_bits`: weight n of the beat, n = lane*d + i, is the
            signed integer in bits [12n, 12n + 12). ``valid`` and the payload are registers.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        super().__init__(projection_ports(geometry))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        code, architecture = self.geometry.code, self.geometry.architecture
        weights = weight_terms(code, architecture.inputs)
        moves = self._control(m, projection_stages(code, architecture))
        stage = 0

        features = self._features(weights)
        if reads_parities(code, architecture.inputs):
            for key, feature in features.items():
                name = "_".join(map(str, ("feature", key[0], *key[1])))
                features[key] = held = Signal(name=name, reset_less=True)
                with m.If(moves[stage]):
                    m.d.sync += held.eq(feature)
            stage += 1

        registered = architecture.kind == "tables" or not adder_levels(code, architecture)
        sums = [
            [
                table(
                    m,
                    moves[stage] if registered else None,
                    leaf,
                    [features[lane, f] for f in leaf.features],
                    f"table_{lane}_{i}_{t}",
                )
                for t, leaf in enumerate(terms.tables)
            ]
            for lane in range(self.geometry.lanes)
            for i, terms in enumerate(weights)
        ]
        for move in moves[stage + registered :]:
            sums = add_rank(m, move, sums, architecture.levels)

        m.d.comb += self.o.payload.eq(
            Cat(
                accumulator(parts[0].value if parts else None, terms.odd, ACC_WIDTH)
                for parts, terms in zip(sums, weights * self.geometry.lanes, strict=True)
            )
        )
        return m

    def _features(
        self, weights: tuple[WeightTerms, ...]
    ) -> dict[tuple[int, tuple[int, ...]], Value]:
        """Features by lane and by the window bits they are the XOR of."""
        return {
            (lane, members): Cat(
                self.i.payload[lane * self.geometry.code.lifted + j] for j in members
            ).xor()
            for lane in range(self.geometry.lanes)
            for members in sorted({f for w in weights for t in w.tables for f in t.features})
        }

    def _control(self, m: Module, stages: int) -> list[Value]:
        """Valid bits of the stages; returns for each stage the condition on which it moves."""
        valids, moves = stage_moves(m, stages, self.i.valid, self.o.ready)
        m.d.comb += [self.i.ready.eq(moves[0]), self.o.valid.eq(valids[-1])]
        return moves
