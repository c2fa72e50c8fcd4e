"""Weights of a layer decoded to two planes of int8 digits, for the product with many tokens.

``acc = low + 128*high`` with low in -64..63 and high in -16..16. Bits of 64 columns are a word, so
that a weight of a group is decoded for 64 columns at a time: every tap is added where its bit, or
parity, is set. Streams that are rows (axis ``in``) are turned round for the moment; then 64 rows
are a word, and planes come out transposed.
"""

import numba
import numpy as np

from gpu.cpu import fields as f
from gpu.cpu.fields import int64s, share
from gpu.cpu.vectors import SUMMED, claim, sum_signs

# what a decoding is told, as int64
(
    D_CLAIMED, D_PIECES, D_PLAN, D_BITS, D_WORDS, D_FIRST, D_GROUPS, D_LOW, D_HIGH, D_STRIDE,
    D_THREADS, D_PARALLEL, D_WORKER, D_FIELDS,
) = range(14)  # fmt: skip
PIECE = 64  # lanes of a piece of work


@numba.njit(inline="always")
def _piece(call, number, features, taps, parities):  # type: ignore[no-untyped-def]
    """Some groups of one word of columns."""
    address = call[D_PLAN]
    plan = int64s(address, f.P_FIELDS)
    table = int64s(address, plan[f.P_SIZE])
    lanes, group, count = plan[f.P_LANES], plan[f.P_GROUP], plan[f.P_TAPS]
    pieces = -(-call[D_GROUPS] // PIECE)
    word, first = number // pieces, number % pieces * PIECE
    many = min(PIECE, call[D_GROUPS] - first)
    start = word * plan[f.P_CLASSES] * lanes + call[D_FIRST] + first
    bits = int64s(call[D_BITS] + 8 * start, plan[f.P_CLASSES] * lanes)
    padded = -(-many // SUMMED) * SUMMED
    apart = group * call[D_STRIDE]
    for i in range(group):
        total = 0
        for j in range(count):
            at = plan[f.P_TAP_TABLE] + 3 * (i * count + j)
            features[j] = call[D_BITS] + 8 * (start + table[at + 1] * lanes + table[at + 2])
            taps[j] = 2 * table[at]
            total += table[at]
        for m in range(plan[f.P_PARITIES]):
            at = plan[f.P_PARITY_TABLE] + (i * plan[f.P_PARITIES] + m) * f.PARITY_FIELDS
            line = parities[m]
            one, two = bits[table[at + 2] :], bits[table[at + 3] :]
            for g in range(padded):
                line[g] = one[g] ^ two[g]
            for n in range(2, table[at]):
                more = bits[table[at + 2 + n] :]
                for g in range(padded):
                    line[g] ^= more[g]
            features[count + m] = line.ctypes.data
            taps[count + m] = 2 * table[at + 1]
            total += table[at + 1]
        to = ((first * group) + i) * call[D_STRIDE] + 64 * word
        for g in range(0, many, SUMMED):
            sum_signs(
                features.ctypes.data, taps.ctypes.data, count + plan[f.P_PARITIES], -total,
                call[D_LOW] + to + g * apart, call[D_HIGH] + to + g * apart, apart,
            )  # fmt: skip
            for j in range(count + plan[f.P_PARITIES]):
                features[j] += 8 * SUMMED


@numba.cfunc(numba.void(numba.int64), cache=True)  # type: ignore[untyped-decorator]
def decode_worker(address):  # type: ignore[no-untyped-def]
    """Decode the pieces that this thread claims."""
    call = int64s(address, D_FIELDS)
    plan = int64s(call[D_PLAN], f.P_FIELDS)
    count = plan[f.P_TAPS] + plan[f.P_PARITIES]
    features, taps = np.empty(count, np.int64), np.empty(count, np.int16)
    parities = np.empty((plan[f.P_PARITIES], PIECE), np.int64)
    while True:
        number = claim(address + 8 * D_CLAIMED)
        if number >= call[D_PIECES]:
            break
        _piece(call, number, features, taps, parities)


@numba.njit(numba.void(numba.int64), nogil=True, cache=True)
def decode(address):  # type: ignore[no-untyped-def]
    """Decode what the block at `address` tells."""
    call = int64s(address, D_FIELDS)
    worker, threads = call[D_WORKER], call[D_THREADS]
    share(call[D_PARALLEL], worker, address, threads, call[D_PIECES])
