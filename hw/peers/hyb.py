"""QTIP's HYB: two weights from a hashed table (arXiv 2406.11235, section 3.2).

The window x becomes ``x * x + x``; bits 6 to 14 of that choose one of 512 pairs, and bit 15 negates
the first of the two. Only 16 bits of the hash are ever read. Entries are odd multiples of 1/32, as
near to the real ones as makes no difference (`benchmarks.peer_mse`), so that a sign is an XOR.
"""

from collections.abc import Sequence

import numpy as np
from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory

from hw.peers.hyb_table import hyb_table
from hw.peers.lanes import Integers, LaneDecoder, Pipeline


class _Hyb(LaneDecoder):
    """The last stage but one looks up, the last sets the sign; those before make the hash."""

    bits, weights, width, stages = 16, 2, 8, 6

    def _hash(self, pipe: Pipeline, window: Value) -> Value:
        """Bits 6 to 15 of the hash, behind the last stage but two, in logic.

        Of x, cut into digits of four bits, one operand holds ``a * a + a`` of the lowest digit and
        the upper two digits; one the second digit and its square; the others the products of
        different digits, as far as they reach below bit 16: three adders beside those of the
        products. yosys makes 411 LUT of a square left to it.
        """
        a, b, c, d = (window.word_select(k, 4) for k in range(4))
        lowest = _function(a, [x * x + x for x in range(16)], 8)
        square = _function(b, [x * x for x in range(16)], 8)
        inside = pipe.held(0, "inside", Cat(lowest, c, d)[1:])
        second = pipe.held(0, "second", Cat(b, square))
        far = pipe.held(0, "far", (_product3(a, d) + _product3(b, c))[:3])
        near_rows = [pipe.held(0, f"near_{k}", rows) for k, rows in enumerate(_rows(a, b))]
        middle_rows = [pipe.held(0, f"middle_{k}", rows) for k, rows in enumerate(_rows(a, c))]

        total = pipe.held(1, "total", Cat(inside[:3], (inside[3:] + second)[:12]))
        far_late = pipe.held(1, "far_late", far)
        near = pipe.held(1, "near", _joined(near_rows, 8))
        middle = pipe.held(1, "middle", _joined(middle_rows, 7))

        cross = pipe.held(2, "cross", Cat(near[:4], (Cat(near[4:], far_late) + middle)[:7]))
        total_late = pipe.held(2, "total_late", total)
        return pipe.held(3, "mixed", (total_late[4:] + cross)[:11][1:])

    def _weights(self, pipe: Pipeline, entry: Value, sign: Value) -> Value:
        negated = pipe.held(self.stages - 1, "negated", Cat(entry[:6] ^ sign.replicate(6), sign))
        return Cat(C(1, 1), negated, C(1, 1), pipe.held(self.stages - 1, "kept", entry[6:]))

    @staticmethod
    def reference(windows: Integers) -> Integers:
        mixed = windows * windows + windows
        pairs: Integers = hyb_table()[mixed >> 6 & 511]
        pairs[:, 0] *= 1 - 2 * (mixed >> 15 & 1)
        return pairs


class Hyb(_Hyb):
    """In logic alone: each half of the table is a function of eight bits for each of its 13; the
    last stage takes one of them.
    """

    def lane(self, m: Module, pipe: Pipeline, window: Value) -> Value:
        mixed = self._hash(pipe, window)
        found = [
            pipe.held(self.stages - 2, f"half_{k}", _function(mixed[:8], half.tolist(), 13))
            for k, half in enumerate(np.split(_packed(), 2))
        ]
        chosen = pipe.held(self.stages - 2, "chosen", mixed[8])
        sign = pipe.held(self.stages - 2, "sign", mixed[9])
        return self._weights(pipe, Mux(chosen, found[1], found[0]), sign)


class HybMemory(_Hyb):
    """The table in a memory, which two lanes share."""

    def prepare(self, m: Module) -> None:
        m.submodules.table = Memory(
            shape=13,
            depth=512,
            init=_packed().tolist(),
            attrs={"syn_romstyle": "EBR", "rom_style": "block"},
        )
        self._table = m.submodules.table

    def lane(self, m: Module, pipe: Pipeline, window: Value) -> Value:
        mixed = self._hash(pipe, window)
        port = self._table.read_port()
        m.d.comb += [port.addr.eq(mixed[:9]), port.en.eq(pipe.move(self.stages - 2))]
        sign = pipe.held(self.stages - 2, "sign", mixed[9])
        return self._weights(pipe, port.data, sign)


class HybBlocks(HybMemory):
    """The table in a memory, and the square from a multiplier."""

    stages = 5

    def _hash(self, pipe: Pipeline, window: Value) -> Value:
        x = pipe.held(0, "x", window)
        square = pipe.held(1, "square", (x * x)[:16])
        x_late = pipe.held(1, "x_late", x)
        return pipe.held(2, "mixed", (square + x_late)[6:16])


def _packed() -> Integers:
    """int64 ``(512,)``: six bits of a pair's first, from bit 6 seven of its second, all but their
    last bits, which are set.
    """
    halves = hyb_table() >> 1
    packed: Integers = halves[:, 0] | (halves[:, 1] & 127) << 6
    return packed


def _rows(a: Value, b: Value) -> tuple[Value, Value]:
    """The products of a digit of four bits with the lower and with the upper half of another."""
    rows = [a & bit.replicate(4) for bit in b]
    return rows[0] + Cat(C(0, 1), rows[1]), rows[2] + Cat(C(0, 1), rows[3])


def _joined(rows: list[Signal], width: int) -> Value:
    """The product that `_rows` began, in `width` bits."""
    return (rows[0] + Cat(C(0, 2), rows[1]))[:width]


def _product3(a: Value, b: Value) -> Value:
    """The lower three bits of a product."""
    two = (a[0] & b[1]) ^ (a[1] & b[0])
    both = a[0] & b[0] & a[1] & b[1]
    return Cat(a[0] & b[0], two, (a[0] & b[2]) ^ (a[1] & b[1]) ^ (a[2] & b[0]) ^ both)


def _function(place: Value, values: Sequence[int], width: int) -> Value:
    """The value at `place`, in `width` bits: multiplexers, which are never taken for a memory."""
    if len(values) == 1:
        return C(int(values[0]), width)
    half = len(values) // 2
    upper, lower = (_function(place[:-1], part, width) for part in (values[half:], values[:half]))
    return Mux(place[-1], upper, lower)
