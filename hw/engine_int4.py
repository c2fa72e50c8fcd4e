"""What an engine is measured against: 4-bit integers, dequantised and multiplied."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from algo.errors import LiftError
from hw.engine_geometry import LARGEST
from hw.sums import Part, add_rank, part_signal

WEIGHT_BITS = 4
_LARGEST_WEIGHT = (1 << WEIGHT_BITS) - 1  # of q - zero, in absolute value


def int4_latency(lanes: int, adders: bool, symmetric: bool) -> int:
    """Edges from a row's last beat to its sum."""
    ranks = 0 if not adders else 1 if symmetric else 2  # registers within a product
    return 3 + ranks + (lanes - 1).bit_length()


class Int4Accumulate(wiring.Component):  # type: ignore[misc]
    """``sum (q - zero) * x`` over a row, K products per cycle: subtract, multiply, add, accumulate.

    Weights are unsigned 4-bit integers with a zero point, as GPTQ and AWQ store them, or signed
    ones without (`symmetric`). Left out, in its favour: scales of groups, storage of the
    activations, back-pressure and requantising.

    Latency: `latency` edges from a row's last beat to its sum. Throughput: K weights per cycle.

    Ports:
        i: stream In, always ready: K weights q, 4 bits each; K activations x, 8 bits, signed; the
            zero point of the beat, 4 bits; a bit that is high in a row's first beat and one that
            is high in its last.
        o: stream Out, whose ``ready`` is ignored: the row's sum, signed, `sum_width` bits.

    Args:
        lanes: K.
        columns: weights in a row, which the width of the accumulator follows from.
        adders: write the product as registered additions of the activation's multiples, of which
            yosys makes a far smaller multiplier than of a product.
        symmetric: weights are signed, and the zero point is ignored.

    Raises:
        LiftError: lanes or columns are less than 1.
    """

    def __new__(cls, lanes: int, columns: int, *form: bool, **kwargs: Any) -> "Int4Accumulate":
        # before Amaranth sees an object, or it would warn that a rejected one was never used
        if lanes < 1 or columns < 1:
            raise LiftError(f"lanes={lanes}, columns={columns}: both are at least 1")
        kwargs["src_loc_at"] = kwargs.get("src_loc_at", 0) + 1
        made: Int4Accumulate = super().__new__(cls, lanes, columns, *form, **kwargs)
        return made

    def __init__(
        self, lanes: int, columns: int, adders: bool = False, symmetric: bool = False
    ) -> None:
        self.lanes = lanes
        self.adders = adders
        self.symmetric = symmetric
        self.sum_width = (_LARGEST_WEIGHT * LARGEST * columns).bit_length() + 1
        self.latency = int4_latency(lanes, adders, symmetric)
        beat = lanes * (WEIGHT_BITS + 8) + WEIGHT_BITS + 2
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(beat))),
                "o": Out(stream.Signature(unsigned(self.sum_width))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, payload = self.lanes, self.i.payload
        weights, activations = payload[: WEIGHT_BITS * lanes], payload[WEIGHT_BITS * lanes :]
        zero = activations[8 * lanes : 8 * lanes + WEIGHT_BITS]
        m.d.comb += self.i.ready.eq(1)
        bits = WEIGHT_BITS + (not self.symmetric)
        bound = (8 if self.symmetric else _LARGEST_WEIGHT) * LARGEST
        products = []
        for n in range(lanes):
            weight = Signal(signed(bits), name=f"weight_{n}", reset_less=True)
            x = Signal(signed(8), name=f"x_{n}", reset_less=True)
            product = part_signal(-bound, bound, f"product_{n}")
            m.d.sync += [
                weight.eq(
                    weights.word_select(n, WEIGHT_BITS) - (0 if self.symmetric else zero),
                ),
                x.eq(activations.word_select(n, 8)),
            ]
            if self.adders:
                _by_adders(m, weight, x, product, n)
            else:
                m.d.sync += product.eq(weight * x)
            products.append(Part(product, -bound, bound))
        ranks = [products]
        for _ in range((lanes - 1).bit_length()):
            ranks = add_rank(m, C(1), ranks, 1)
        total = ranks[0][0].value

        # weights, products, levels; the sum's own register comes after
        stages = self.latency - 1
        firsts, lasts, valids = Signal(stages), Signal(stages), Signal(stages)
        m.d.sync += [
            firsts.eq(Cat(payload[-2], firsts)),
            lasts.eq(Cat(payload[-1] & self.i.valid, lasts)),
            valids.eq(Cat(self.i.valid, valids)),
        ]
        acc = Signal(signed(self.sum_width), reset_less=True)
        with m.If(valids[-1]):
            m.d.sync += acc.eq(total + Mux(firsts[-1], 0, acc))
        done = Signal()
        m.d.sync += done.eq(lasts[-1])
        m.d.comb += [self.o.payload.eq(acc), self.o.valid.eq(done)]
        return m


def _by_adders(m: Module, weight: Signal, x: Signal, product: Signal, number: int) -> None:
    """Drive ``product = weight * x``: multiples of x for each bit of the weight, added in pairs.

    A register after each addition: synthesis would otherwise merge them into one sum of many terms,
    which yosys builds without carry chains.
    """

    def held(value: Value, name: str) -> Signal:
        register = Signal(value.shape(), name=f"{name}_{number}", reset_less=True)
        m.d.sync += register.eq(value)
        return register

    multiples = [Mux(bit, x, 0).as_signed() << n for n, bit in enumerate(weight)]
    low = held(multiples[0] + multiples[1], "low")
    if len(multiples) == WEIGHT_BITS:
        m.d.sync += product.eq(low + held(multiples[2] - multiples[3], "high"))
        return
    high = held(multiples[2] + multiples[3], "high")
    top = held(held(multiples[4], "top"), "top_2")
    m.d.sync += product.eq(held(low + high, "both") - top)
