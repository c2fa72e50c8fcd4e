"""The inner loops as vectors of a fixed width, written in LLVM's own operations.

LLVM turns them into what the processor has: with AVX-512 one instruction each, elsewhere several.
Addresses are int64; nothing is checked here. Floating point is as it is written: no operation
carries a flag that lets LLVM contract or reorder it.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_I8, _I16, _I32, _I64 = (ir.IntType(n) for n in (8, 16, 32, 64))
_F32, _F64 = ir.FloatType(), ir.DoubleType()
_WORDS = ir.VectorType(_I64, 8)
_DOUBLES = ir.VectorType(_F64, 8)
_FLOATS = ir.VectorType(_F32, 16)
COLUMNS = 16  # of an `ordered_rows`
COUNTED = 16  # lanes of a `count_bits`
SUMMED = 4  # lanes of a `sum_signs`
PLANES = 7  # of magnitudes; the eighth is of signs


def _at(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _load(builder: Any, address: Any, kind: Any, align: int) -> Any:
    return builder.load(_at(builder, address, kind), align=align)


def _store(builder: Any, value: Any, address: Any, align: int) -> None:
    builder.store(value, _at(builder, address, value.type), align=align)


def _plus(builder: Any, address: Any, count: Any, size: int) -> Any:
    if isinstance(count, int):
        return builder.add(address, _I64(count * size))
    return builder.add(address, builder.mul(count, _I64(size)))


def _splat(builder: Any, value: Any, vector: Any) -> Any:
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _I32(0))
    zeros = ir.Constant(ir.VectorType(_I32, vector.count), None)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def _variable(builder: Any, value: Any) -> Any:
    place = cgutils.alloca_once(builder, value.type)
    builder.store(value, place)
    return place


def _int64s(count: int) -> tuple[Any, ...]:
    return (types.int64,) * count


def _counting(operands: int) -> Any:
    """`count_bits` of words that are the exclusive or of so many; 0: of as many as are listed."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        bits, offsets, many, words, stride, planes, total, factor, to = values
        kind = ir.FunctionType(_WORDS, [_WORDS])
        popcount = cgutils.get_or_insert_function(builder.module, kind, "llvm.ctpop.v8i64")
        blocks = range(COUNTED // _WORDS.count)
        zero = ir.Constant(_WORDS, None)
        counts = [[_variable(builder, zero) for _ in range(PLANES)] for _ in blocks]
        starts = [
            _plus(builder, bits, _load(builder, _plus(builder, offsets, n, 8), _I64, 8), 8)
            for n in range(operands or 1)
        ]
        with cgutils.for_range(builder, words) as loop:
            ahead = builder.mul(builder.mul(loop.index, stride), _I64(8))
            plane = _plus(builder, planes, loop.index, 8 * (PLANES + 1))
            sign = _load(builder, _plus(builder, plane, PLANES, 8), _I64, 8)
            read = [_variable(builder, _splat(builder, sign, _WORDS)) for _ in blocks]

            def exclude(start: Any) -> None:
                for block, word in enumerate(read):
                    here = builder.add(builder.add(start, ahead), _I64(64 * block))
                    other = _load(builder, here, _WORDS, 8)
                    builder.store(builder.xor(builder.load(word), other), word)

            for start in starts:
                exclude(start)
            if not operands:
                with cgutils.for_range(builder, builder.sub(many, _I64(1))) as rest:
                    at = _plus(builder, offsets, builder.add(rest.index, _I64(1)), 8)
                    exclude(_plus(builder, bits, _load(builder, at, _I64, 8), 8))
            words_read = [builder.load(word) for word in read]
            for s in range(PLANES):
                digit = _load(builder, _plus(builder, plane, s, 8), _I64, 8)
                mask = _splat(builder, digit, _WORDS)
                for word, count in zip(words_read, counts, strict=True):
                    ones = builder.call(popcount, [builder.and_(word, mask)])
                    builder.store(builder.add(builder.load(count[s]), ones), count[s])
        for block, count in enumerate(counts):
            # in pairs, twice the value the plane stands for: short chains of operations
            places = [builder.load(c) for c in count]
            for distance in (1, 2, 4):
                shift = ir.Constant(_WORDS, [distance] * _WORDS.count)
                upper = [builder.shl(place, shift) for place in places[1::2]]
                pairs = [builder.add(a, b) for a, b in zip(places[::2], upper, strict=False)]
                places = pairs + places[2 * len(upper) :]
            doubled = builder.shl(places[0], ir.Constant(_WORDS, [1] * _WORDS.count))
            signed = builder.sub(doubled, _splat(builder, total, _WORDS))
            real = builder.sitofp(signed, _DOUBLES)
            real = builder.fmul(real, _splat(builder, factor, _DOUBLES))
            place = builder.add(to, _I64(64 * block))
            _store(builder, builder.fadd(real, _load(builder, place, _DOUBLES, 8)), place, 8)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def counting(  # type: ignore[no-untyped-def]
        typing_context, bits, offsets, many, words, stride, planes, total, factor, to
    ):
        return types.void(*_int64s(7), types.float64, types.int64), generate

    return counting


# (bits, offsets, many, words, stride, planes, total, factor, to): of 16 lanes, for words n `stride`
# apart, to[lane] += factor * (2 * sum_n sum_s 2**s * popcount(word & planes[n, s]) - total). A word
# is the exclusive or of planes[n, 7], the signs, and of those at `bits` + each of `many` offsets.
count_one, count_two, count_three, count_many = (_counting(n) for n in (1, 2, 3, 0))


@intrinsic  # type: ignore[untyped-decorator]
def project(typing_context, sums, terms, many, to):  # type: ignore[no-untyped-def]
    """Of 16 lanes ``to[lane] = sum_j tap_j * sums[offset_j + lane]``, all of them float64.

    `terms` is the address of `many` pairs: a tap's float64, then an int64 offset.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        sums, terms, many, to = values
        blocks = range(COUNTED // _DOUBLES.count)
        accs = [_variable(builder, ir.Constant(_DOUBLES, None)) for _ in blocks]
        with cgutils.for_range(builder, many) as loop:
            term = _plus(builder, terms, loop.index, 16)
            tap = _splat(builder, _load(builder, term, _F64, 8), _DOUBLES)
            source = _plus(builder, sums, _load(builder, _plus(builder, term, 1, 8), _I64, 8), 8)
            for block, acc in enumerate(accs):
                values = _load(builder, _plus(builder, source, block, 64), _DOUBLES, 8)
                builder.store(builder.fadd(builder.load(acc), builder.fmul(tap, values)), acc)
        for block, acc in enumerate(accs):
            _store(builder, builder.load(acc), _plus(builder, to, block, 64), 8)
        return context.get_dummy_value()

    return types.void(*_int64s(4)), generate


def _ordered(rows: int) -> Any:
    """`ordered_rows` of so many rows."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        left, left_stride, right, right_stride, out, out_stride, terms = values
        sums = [_variable(builder, ir.Constant(_FLOATS, None)) for _ in range(rows)]
        with cgutils.for_range(builder, terms) as loop:
            line = _plus(builder, right, builder.mul(loop.index, right_stride), 4)
            factor = _load(builder, line, _FLOATS, 4)
            for row, total in enumerate(sums):
                at = builder.add(builder.mul(left_stride, _I64(row)), loop.index)
                value = _splat(
                    builder, _load(builder, _plus(builder, left, at, 4), _F32, 4), _FLOATS
                )
                product = builder.fmul(value, factor)
                builder.store(builder.fadd(builder.load(total), product), total)
        for row, total in enumerate(sums):
            at = _plus(builder, out, builder.mul(out_stride, _I64(row)), 4)
            _store(builder, builder.load(total), at, 4)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def ordered(  # type: ignore[no-untyped-def]
        typing_context, left, left_stride, right, right_stride, out, out_stride, terms
    ):
        return types.void(*_int64s(7)), generate

    return ordered


# (left, left_stride, right, right_stride, out, out_stride, terms): float32, of 1 or 4 rows r and 16
# columns c: out[r, c] = sum_k left[r, k] * right[k, c], k ascending, each operation rounded
ordered_row, ordered_rows = _ordered(1), _ordered(4)


@intrinsic  # type: ignore[untyped-decorator]
def bit_planes(typing_context, values, to):  # type: ignore[no-untyped-def]
    """Of 64 bytes at `values` bit s as word s of the 8 at `to`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        kind = ir.VectorType(_I8, 64)
        values, to = arguments
        loaded = _load(builder, values, kind, 1)
        for s in range(8):
            mask = ir.Constant(kind, [1 << s if s < 7 else -128] * 64)
            one = builder.icmp_unsigned("!=", builder.and_(loaded, mask), ir.Constant(kind, None))
            word = builder.bitcast(one, _I64)
            _store(builder, word, builder.add(to, _I64(8 * s)), 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def pointer(typing_context, address):  # type: ignore[no-untyped-def]
    """An address as a pointer, which `numba.carray` takes."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def claim(typing_context, address):  # type: ignore[no-untyped-def]
    """The int64 at `address`, which is one more afterwards, whoever else claims."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        return builder.atomic_rmw("add", _at(builder, values[0], _I64), _I64(1), "seq_cst")

    return types.int64(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def call_worker(typing_context, worker, data):  # type: ignore[no-untyped-def]
    """``worker(data)``, of which `worker` is the address."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_I64])
        builder.call(_at(builder, values[0], kind), [values[1]])
        return context.get_dummy_value()

    return types.void(*_int64s(2)), generate


@intrinsic  # type: ignore[untyped-decorator]
def call_parallel(typing_context, parallel, worker, data, threads):  # type: ignore[no-untyped-def]
    """``GOMP_parallel(worker, data, threads, 0)``, of which `parallel` is the address."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_I64, _I64, _I32, _I32])
        threads = builder.trunc(values[3], _I32)
        builder.call(_at(builder, values[0], kind), [values[1], values[2], threads, _I32(0)])
        return context.get_dummy_value()

    return types.void(*_int64s(4)), generate


@intrinsic  # type: ignore[untyped-decorator]
def pattern(typing_context, value):  # type: ignore[no-untyped-def]
    """The bits of a float64 as int64."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        return builder.bitcast(values[0], _I64)

    return types.int64(types.float64), generate


@intrinsic  # type: ignore[untyped-decorator]
def from_pattern(typing_context, value):  # type: ignore[no-untyped-def]
    """The float64 of such bits."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        return builder.bitcast(values[0], _F64)

    return types.float64(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def sum_signs(typing_context, features, taps, many, start, low, high, apart):  # type: ignore[no-untyped-def]
    """Weights of 64 columns in `SUMMED` neighbouring lanes, as two int8 digits of base 128.

    ``acc = start + sum_j (bit ? taps[j] : 0)`` over `many` int16 taps, the bits those of the words
    at the addresses `features[j]`; the digit in -64..63 is stored at `low`, the other at `high`,
    and each further lane's `apart` bytes further on.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        half, ones = ir.VectorType(_I16, 32), ir.VectorType(ir.IntType(1), 32)
        features, taps, many, start, low, high, apart = values

        def constant(value: int) -> Any:
            return ir.Constant(half, [value] * half.count)

        first = _splat(builder, builder.trunc(start, _I16), half)
        accs = [_variable(builder, first) for _ in range(2 * SUMMED)]
        with cgutils.for_range(builder, many) as loop:
            at = _load(builder, _plus(builder, features, loop.index, 8), _I64, 8)
            tap = _load(builder, _plus(builder, taps, loop.index, 2), _I16, 2)
            tap = _splat(builder, tap, half)
            for n, acc in enumerate(accs):
                bits = _load(builder, builder.add(at, _I64(4 * n)), _I32, 4)
                chosen = builder.select(builder.bitcast(bits, ones), tap, constant(0))
                builder.store(builder.add(builder.load(acc), chosen), acc)
        for n, acc in enumerate(accs):
            value = builder.load(acc)
            upper = builder.ashr(builder.add(value, constant(64)), constant(7))
            lower = builder.sub(value, builder.shl(upper, constant(7)))
            for digit, to in ((lower, low), (upper, high)):
                at = builder.add(to, _I64(32 * (n % 2)))
                at = builder.add(at, builder.mul(apart, _I64(n // 2)))
                _store(builder, builder.trunc(digit, ir.VectorType(_I8, 32)), at, 1)
        return context.get_dummy_value()

    return types.void(*_int64s(7)), generate
