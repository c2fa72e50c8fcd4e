"""What kernels are told, as int64 numbers and addresses: indices into these.

A call is `CALL_FIELDS` numbers, then `LAYER_FIELDS` for every layer.
"""

import numba
import numpy as np

from gpu.cpu.vectors import call_parallel, call_worker, pointer

# of the call
(
    CLAIMED,  # how many pieces of work have been claimed
    CHUNKS,  # pieces of work in all
    TOKENS,
    INPUTS,
    WORDS,  # of 64 inner indices
    BLOCKS,  # of 7 magnitude planes
    LARGEST_AT,  # largest integer of an activation
    X, X_TYPE, X_STRIDE,  # activations; float32 0, bfloat16 1; elements from row to row
    LEFT, RIGHT, PRE, OUTER, INNER, RIGHT_STRIDE,  # of the whitening
    LIFT,  # plan of the lifting, or 0
    PLANES_AT, TOTALS_AT, STEPS_AT, INTEGERS_AT,  # what preparing leaves
    DIGITS, DIGITS_AT, DIGIT_STRIDE,  # rows of int8 digits, as many per token
    OUT, OUT_TYPE, OUT_STRIDE,  # type as in `gpu.cpu.finish.WRITTEN`; elements from row to row
    LAYERS,
    THREADS, PARALLEL, PREPARE_WORKER, PRODUCT_WORKER,  # addresses
    CALL_FIELDS,
) = range(33)  # fmt: skip

# of a layer
PLAN, BITS, SCALES, BIAS, COLUMN, FIRST_CHUNK, LAYER_FIELDS = range(7)

# of a plan, see `gpu.cpu.plan`: numbers, then the tables they tell the places of
(
    P_CLASSES, P_LANES,  # of the layout; lanes also those that windows wrap round to
    P_GROUPS, P_GROUP, P_ROWS, P_WRAP,
    P_TAPS, P_PARITIES,  # of a weight
    P_CHUNK, P_PIECES,  # lanes of a piece of work, and how many pieces
    P_OFFSETS,  # of each class
    P_TAP_TABLE,  # of each weight and window bit: tap, class, groups further on
    P_TERMS,  # the same as pairs of a float64 and an offset in class sums, `LINE` to a class
    P_PARITY_TABLE,  # of each weight and parity: members, tap, the members' offsets
    P_SIZE,
    P_FIELDS,
) = range(16)  # fmt: skip
MOST_MEMBERS = 32  # of a parity
PARITY_FIELDS = 2 + MOST_MEMBERS


@numba.njit(inline="always")
def int64s(address, count):  # type: ignore[no-untyped-def]
    return numba.carray(pointer(address), count, np.int64)


@numba.njit(inline="always")
def doubles(address, count):  # type: ignore[no-untyped-def]
    return numba.carray(pointer(address), count, np.float64)


@numba.njit(inline="always")
def floats(address, count):  # type: ignore[no-untyped-def]
    return numba.carray(pointer(address), count, np.float32)


@numba.njit(inline="always")
def int32s(address, count):  # type: ignore[no-untyped-def]
    return numba.carray(pointer(address), count, np.int32)


@numba.njit(inline="always")
def int16s(address, count):  # type: ignore[no-untyped-def]
    return numba.carray(pointer(address), count, np.int16)


@numba.njit(inline="always")
def share(parallel, worker, data, threads, work):  # type: ignore[no-untyped-def]
    """Call the worker at an address from all threads, or from this one if there is little work.

    An address and not the function itself, which would be compiled into every caller.
    """
    if threads > 1 and work > 1:
        call_parallel(parallel, worker, data, threads)
    else:
        call_worker(worker, data)
