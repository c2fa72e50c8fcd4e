"""QTIP's HYB: two weights from a hashed table (arXiv 2406.11235, section 3.2).

The window x becomes ``x * x + x``; bits 6 to 14 of that choose one of 512 pairs, and bit 15 negates
the first of the two. Only 16 bits of the hash are ever read. Entries are odd multiples of 1/32, as
near to the real ones as makes no difference (`benchmarks.peer_mse`), so that a sign is an XOR.
"""

from amaranth.hdl import C, Cat, Module, Mux, Value
from amaranth.lib.memory import Memory

from hw.peers.hyb_table import hyb_table
from hw.peers.lanes import Integers, LaneDecoder, Pipeline


class _Hyb(LaneDecoder):
    """Stages 0 to 2 hash, 3 looks up, 4 sets the sign."""

    bits, weights, width, stages = 16, 2, 8, 5

    def _hash(self, pipe: Pipeline, window: Value) -> Value:
        """Bits 6 to 15 of the hash, behind stage 2, in logic.

        Of x, cut into digits of four bits, one operand holds ``a * a + a`` of the lowest digit and
        the upper two digits; one the second digit and its square; the others the products of
        different digits, as far as they reach below bit 16: three adders.
        """
        a, b, c, d = (window.word_select(k, 4) for k in range(4))
        lowest = _function(a, [x * x + x for x in range(16)], 8)
        square = _function(b, [x * x for x in range(16)], 8)
        inside = pipe.held(0, "inside", Cat(lowest, c, d)[1:])
        second = pipe.held(0, "second", Cat(b, square))
        near = pipe.held(0, "near", _product(a, b, 8))
        far = pipe.held(0, "far", (_product3(a, d) + _product3(b, c))[:3])
        middle = pipe.held(0, "middle", _product(a, c, 7))

        total = pipe.held(1, "total", Cat(inside[:3], (inside[3:] + second)[:12]))
        cross = pipe.held(1, "cross", Cat(near[:4], (Cat(near[4:], far) + middle)[:7]))
        return pipe.held(2, "mixed", (total[4:] + cross)[:11][1:])

    def _weights(self, pipe: Pipeline, first: Value, other: Value, sign: Value) -> Value:
        negated = pipe.held(4, "negated", Cat(first ^ sign.replicate(6), sign))
        return Cat(C(1, 1), negated, C(1, 1), pipe.held(4, "kept", other))

    @staticmethod
    def reference(windows: Integers) -> Integers:
        mixed = windows * windows + windows
        pairs: Integers = hyb_table()[mixed >> 6 & 511]
        pairs[:, 0] *= 1 - 2 * (mixed >> 15 & 1)
        return pairs


class Hyb(_Hyb):
    """In logic alone: the table is a function of nine bits for each of its 13."""

    def lane(self, m: Module, pipe: Pipeline, window: Value) -> Value:
        mixed = self._hash(pipe, window)
        entries = hyb_table() >> 1
        first = _function(mixed[:9], entries[:, 0].tolist(), 6)
        other = _function(mixed[:9], entries[:, 1].tolist(), 7)
        sign = pipe.held(3, "sign", mixed[9])
        return self._weights(pipe, pipe.held(3, "first", first), pipe.held(3, "other", other), sign)


class HybMemory(_Hyb):
    """The table in a memory, which two lanes share."""

    def prepare(self, m: Module) -> None:
        init = [int(first) | (int(other) & 127) << 6 for first, other in hyb_table() >> 1]
        m.submodules.table = Memory(
            shape=13, depth=512, init=init, attrs={"syn_romstyle": "EBR", "rom_style": "block"}
        )
        self._table = m.submodules.table

    def lane(self, m: Module, pipe: Pipeline, window: Value) -> Value:
        mixed = self._hash(pipe, window)
        port = self._table.read_port()
        m.d.comb += [port.addr.eq(mixed[:9]), port.en.eq(pipe.move(3))]
        sign = pipe.held(3, "sign", mixed[9])
        return self._weights(pipe, port.data[:6], port.data[6:], sign)


class HybBlocks(HybMemory):
    """The table in a memory, and the square from a multiplier."""

    def _hash(self, pipe: Pipeline, window: Value) -> Value:
        x = pipe.held(0, "x", window)
        square = pipe.held(1, "square", (x * x)[:16])
        x_late = pipe.held(1, "x_late", x)
        return pipe.held(2, "mixed", (square + x_late)[6:16])


def _product(a: Value, b: Value, width: int) -> Value:
    """The product of two digits of four bits, in `width` bits."""
    rows = [a & b[k].replicate(4) for k in range(4)]
    pairs = [rows[k] + Cat(C(0, 1), rows[k + 1]) for k in (0, 2)]
    return (pairs[0] + Cat(C(0, 2), pairs[1]))[:width]


def _product3(a: Value, b: Value) -> Value:
    """The lower three bits of a product."""
    two = (a[0] & b[1]) ^ (a[1] & b[0])
    both = a[0] & b[0] & a[1] & b[1]
    return Cat(a[0] & b[0], two, (a[0] & b[2]) ^ (a[1] & b[1]) ^ (a[2] & b[0]) ^ both)


def _function(place: Value, values: list[int], width: int) -> Value:
    """The value at `place`, in `width` bits: multiplexers, which are never taken for a memory."""
    if len(values) == 1:
        return C(values[0] & (1 << width) - 1, width)
    half = len(values) // 2
    upper, lower = (_function(place[:-1], part, width) for part in (values[half:], values[:half]))
    return Mux(place[-1], upper, lower)
