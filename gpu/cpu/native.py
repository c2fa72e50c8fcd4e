"""What kernels need below numba: addresses, calls through them, atomic counters, bit patterns."""

from collections.abc import Sequence
from typing import Any

import numba
from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending
from numba.core import cgutils as untyped
from numba.core import types

# what numba keeps to itself, or types with an argument that is the compiler's
carray: Any = numba.carray  # type: ignore[attr-defined]
intrinsic: Any = extending.intrinsic
cgutils: Any = untyped

_I32, _I64, _F64 = ir.IntType(32), ir.IntType(64), ir.DoubleType()


@intrinsic
def pointer(typing_context, address):  # type: ignore[no-untyped-def]
    """An address as a pointer, which `numba.carray` takes."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@intrinsic
def claim(typing_context, address):  # type: ignore[no-untyped-def]
    """The int64 at `address`, which is one more afterwards, whoever else claims."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        return builder.atomic_rmw(
            "add", builder.inttoptr(values[0], _I64.as_pointer()), _I64(1), "seq_cst"
        )

    return types.int64(types.int64), generate


@intrinsic
def prefetch(typing_context, address):  # type: ignore[no-untyped-def]
    """Have the cache line at `address` brought, to be read soon."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        place = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [place, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        at = builder.inttoptr(values[0], place)
        builder.call(function, [at, _I32(0), _I32(3), _I32(1)])  # read, near, data
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def call_worker(typing_context, worker, data):  # type: ignore[no-untyped-def]
    """``worker(data)``, of which `worker` is the address."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_I64])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), [values[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def call_parallel(typing_context, parallel, worker, data, threads):  # type: ignore[no-untyped-def]
    """``GOMP_parallel(worker, data, threads, 0)``, of which `parallel` is the address."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_I64, _I64, _I32, _I32])
        threads = builder.trunc(values[3], _I32)
        builder.call(
            builder.inttoptr(values[0], kind.as_pointer()), [values[1], values[2], threads, _I32(0)]
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def pattern(typing_context, value):  # type: ignore[no-untyped-def]
    """The bits of a float64 as int64."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        return builder.bitcast(values[0], _I64)

    return types.int64(types.float64), generate


@intrinsic
def from_pattern(typing_context, value):  # type: ignore[no-untyped-def]
    """The float64 of such bits."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        return builder.bitcast(values[0], _F64)

    return types.float64(types.int64), generate
