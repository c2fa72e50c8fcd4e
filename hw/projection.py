"""Windows in, integer weights out."""

from dataclasses import dataclass

from amaranth.hdl import C, Cat, Module, Signal, Value, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.geometry import ACC_WIDTH, Geometry
from hw.terms import Table, WeightTerms, projection_stages, weight_terms


@dataclass(frozen=True)
class _Part:
    """A registered partial sum and the range it is known to stay in."""

    value: Value
    low: int
    high: int


class Projection(wiring.Component):  # type: ignore[misc]
    """The small linear projection: P windows of D + V bits to P*d sums of +-taps.

    Parities (XORs) are registered first where the code has any, then tables of four features each,
    then every level of a tree of signed adders. Every register is exactly as wide as the values it
    can hold.

    Latency: `projection_stages(code)` edges from taking a window to being able to transfer its
    weights at the next. Throughput: one beat per cycle. A stage moves when it is empty or its
    successor moves, so gaps close up while the output waits.

    Ports:
        i: stream In, payload of `window_bits`; ``ready`` depends on ``o.ready``.
        o: stream Out, payload of `payload_bits`: weight n of the beat, n = lane*d + i, is the
            signed integer in bits [12n, 12n + 12). ``valid`` and the payload are registers.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(geometry.window_bits))),
                "o": Out(stream.Signature(unsigned(geometry.payload_bits))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        code = self.geometry.code
        weights = weight_terms(code)
        moves = self._control(m, projection_stages(code))
        stage = 0

        # features by lane and by the window bits they are the XOR of
        features: dict[tuple[int, tuple[int, ...]], Value] = {}
        for lane in range(self.geometry.lanes):
            for members in sorted({f for w in weights for t in w.tables for f in t.features}):
                bits = [self.i.payload[lane * code.lifted + j] for j in members]
                features[lane, members] = Cat(bits).xor()
        if code.parities:
            for key, feature in features.items():
                name = "_".join(map(str, ("feature", key[0], *key[1])))
                features[key] = held = Signal(name=name, reset_less=True)
                with m.If(moves[stage]):
                    m.d.sync += held.eq(feature)
            stage += 1

        sums = [
            [
                _table(m, moves[stage], table, [features[lane, f] for f in table.features], name)
                for t, table in enumerate(terms.tables)
                for name in [f"table_{lane}_{i}_{t}"]
            ]
            for lane in range(self.geometry.lanes)
            for i, terms in enumerate(weights)
        ]
        for move in moves[stage + 1 :]:
            sums = [_add_pairs(m, move, parts) for parts in sums]

        m.d.comb += self.o.payload.eq(
            Cat(
                _accumulator(parts, terms)
                for parts, terms in zip(sums, weights * self.geometry.lanes, strict=True)
            )
        )
        return m

    def _control(self, m: Module, stages: int) -> list[Value]:
        """Valid bits of the stages; returns for each stage the condition on which it moves."""
        valids = [Signal(name=f"valid_{s}") for s in range(stages)]
        moves = [Signal(name=f"move_{s}") for s in range(stages)]
        for s, (valid, move) in enumerate(zip(valids, moves, strict=True)):
            following = moves[s + 1] if s + 1 < stages else self.o.ready
            m.d.comb += move.eq(~valid | following)
            with m.If(move):
                m.d.sync += valid.eq(valids[s - 1] if s else self.i.valid)
        m.d.comb += [self.i.ready.eq(moves[0]), self.o.valid.eq(valids[-1])]
        return moves


def _register(m: Module, low: int, high: int, name: str) -> Signal:
    width = max((~low if low < 0 else low).bit_length(), (~high if high < 0 else high).bit_length())
    return Signal(signed(width + 1), name=name, reset_less=True)


def _table(m: Module, move: Value, table: Table, inputs: list[Value], name: str) -> _Part:
    low, high = min(table.values), max(table.values)
    held = _register(m, low, high, name)
    with m.If(move), m.Switch(Cat(inputs)):
        for x, value in enumerate(table.values):
            with m.Case(x):
                m.d.sync += held.eq(value)
    return _Part(held, low, high)


def _add_pairs(m: Module, move: Value, parts: list[_Part]) -> list[_Part]:
    """One level of the tree; an odd part out is delayed to stay in step."""
    out = []
    for at in range(0, len(parts), 2):
        pair = parts[at : at + 2]
        low, high = sum(p.low for p in pair), sum(p.high for p in pair)
        held = _register(m, low, high, f"{pair[0].value.name}s")
        with m.If(move):
            m.d.sync += held.eq(sum((p.value for p in pair[1:]), pair[0].value))
        out.append(_Part(held, low, high))
    return out


def _accumulator(parts: list[_Part], terms: WeightTerms) -> Value:
    """The 12 bits of ``2 * sum + odd``; a weight without taps has no parts and is zero."""
    if not parts:
        return C(0, ACC_WIDTH)
    (total,) = parts
    sign = total.value[-1].replicate(ACC_WIDTH - 1 - len(total.value))
    return Cat(C(terms.odd, 1), total.value, sign)
