"""The one-bit product by counting bits, its projection by the taps, and the result's one rounding.

With magnitudes ``m = sum_s 2**s m_s`` of activations and a bit matrix whose bits are turned round
where activations are negative, ``sum_k +-x_k = 2 sum_s 2**s popcount(bits & m_s) - sum_k m_k``. A
parity is one more row, the exclusive or of others. Bits of 64 columns are a word, and neighbouring
words belong to neighbouring groups.
"""

from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numba
import numpy as np
import torch

from algo.activations import LARGEST, Digits
from algo.code import LiftCode
from algo.lifted import bounds
from algo.packing import stream_groups
from gpu.cpu import fields as f
from gpu.cpu.fields import doubles, floats, int64s, share
from gpu.cpu.finish import WRITTEN, finish
from gpu.cpu.native import claim, prefetch
from gpu.cpu.plan import CHUNK, LINE, Plan
from gpu.cpu.prepare import PREPARE_ADDRESS, Activations, lift_plan, prepare_all
from gpu.cpu.threads import parallel_address, thread_count
from gpu.cpu.vectors import COUNTED, PLANES, count_many, count_one, count_three, count_two, project

if TYPE_CHECKING:
    from gpu.cpu.layer import CpuLayer


@numba.njit(inline="always")
def _count(bits, offsets, many, words, stride, planes, total, factor, to, lanes):  # type: ignore[no-untyped-def]
    for lane in range(0, lanes, COUNTED):
        at, out = bits + 8 * lane, to + 8 * lane
        if many == 1:
            count_one(at, offsets, many, words, stride, planes, total, factor, out)
        elif many == 2:
            count_two(at, offsets, many, words, stride, planes, total, factor, out)
        elif many == 3:
            count_three(at, offsets, many, words, stride, planes, total, factor, out)
        else:
            count_many(at, offsets, many, words, stride, planes, total, factor, out)


@numba.njit(inline="always")
def _chunk(call, layer, piece, classes, line, sums, results):  # type: ignore[no-untyped-def]
    """One piece of work: some groups of one layer, for all tokens."""
    address = layer[f.PLAN]
    plan = int64s(address, f.P_FIELDS)
    lanes, group, wrap = plan[f.P_LANES], plan[f.P_GROUP], plan[f.P_WRAP]
    words, blocks = call[f.WORDS], call[f.BLOCKS]
    taps, parities = plan[f.P_TAPS], plan[f.P_PARITIES]
    table = int64s(address, plan[f.P_SIZE])
    stride = plan[f.P_CLASSES] * lanes
    first = piece * plan[f.P_CHUNK]
    count = min(plan[f.P_CHUNK], plan[f.P_GROUPS] - first)
    bits = layer[f.BITS] + 8 * first
    row, last = first * group, min((first + count) * group, plan[f.P_ROWS])
    scales, bias = floats(layer[f.SCALES], plan[f.P_ROWS]), floats(layer[f.BIAS], plan[f.P_ROWS])
    # rows lie too far apart for the processor to foresee which are next
    for n in range(words * plan[f.P_CLASSES]):
        for at in range(0, 8 * (count + wrap), 64):
            prefetch(bits + 8 * n * lanes + at)
    for token in range(call[f.TOKENS]):
        totals = int64s(call[f.TOTALS_AT] + 8 * token * blocks, blocks)
        planes = call[f.PLANES_AT] + token * blocks * words * 8 * (PLANES + 1)
        for c in range(plan[f.P_CLASSES]):
            classes[c] = 0
            for block in range(blocks):
                _count(
                    bits, address + 8 * (plan[f.P_OFFSETS] + c), 1, words, stride,
                    planes + block * words * 8 * (PLANES + 1), totals[block],
                    np.float64(1 << PLANES * block), classes[c].ctypes.data, count + wrap,
                )  # fmt: skip
        for i in range(group):
            terms = address + 8 * (plan[f.P_TERMS] + 2 * i * taps)
            for lane in range(0, count, COUNTED):
                project(classes.ctypes.data + 8 * lane, terms, taps, line.ctypes.data + 8 * lane)
            for m in range(parities):
                at = plan[f.P_PARITY_TABLE] + (i * parities + m) * f.PARITY_FIELDS
                for block in range(blocks):
                    _count(
                        bits, address + 8 * (at + 2), table[at], words, stride,
                        planes + block * words * 8 * (PLANES + 1), totals[block],
                        np.float64(table[at + 1] << PLANES * block), line.ctypes.data, count,
                    )  # fmt: skip
            for g in range(count):
                sums[g * group + i] = line[g]
        column = token * call[f.OUT_STRIDE] + layer[f.COLUMN] + row
        kind, step = call[f.OUT_TYPE], doubles(call[f.STEPS_AT], token + 1)[token]
        to = call[f.OUT] + column * (2 if kind else 4)
        finish(sums, scales[row:last], bias[row:last], step, results, kind, to)


@numba.cfunc(numba.void(numba.int64), cache=True)
def _product_worker(address):  # type: ignore[no-untyped-def]
    """Do the pieces of work that this thread claims."""
    call = int64s(address, f.CALL_FIELDS)
    count = call[f.LAYERS]
    fields = int64s(address + 8 * f.CALL_FIELDS, count * f.LAYER_FIELDS)
    layers = fields.reshape(count, f.LAYER_FIELDS)
    most, group = 1, 1
    for n in range(count):
        plan = int64s(layers[n, f.PLAN], f.P_FIELDS)
        most, group = max(most, plan[f.P_CLASSES]), max(group, plan[f.P_GROUP])
    classes, line = np.zeros((most, LINE)), np.empty(CHUNK)
    sums, results = np.empty(CHUNK * group), np.empty(CHUNK * group, np.float32)
    while True:
        piece = claim(address + 8 * f.CLAIMED)
        if piece >= call[f.CHUNKS]:
            break
        n = count - 1
        while layers[n, f.FIRST_CHUNK] > piece:
            n -= 1
        _chunk(call, layers[n], piece - layers[n, f.FIRST_CHUNK], classes, line, sums, results)


_PRODUCT_ADDRESS = _product_worker.address or 0


@numba.njit(cache=True)
def _both(address, planes, totals, steps, integers):  # type: ignore[no-untyped-def]
    """Arrays are arguments so that they live as long as their addresses are used."""
    call = int64s(address, f.CALL_FIELDS)
    call[f.PLANES_AT], call[f.TOTALS_AT] = planes.ctypes.data, totals.ctypes.data
    call[f.STEPS_AT] = steps.ctypes.data
    prepare_all(address, integers)
    call[f.CLAIMED] = 0
    worker, threads = call[f.PRODUCT_WORKER], call[f.THREADS]
    share(call[f.PARALLEL], worker, address, threads, call[f.CHUNKS])


@numba.njit(numba.void(numba.int64), nogil=True, cache=True)
def _run(address):  # type: ignore[no-untyped-def]
    """A whole call: the tokens prepared, then all layers' pieces of work."""
    call = int64s(address, f.CALL_FIELDS)
    columns = call[f.TOKENS] * call[f.BLOCKS]
    planes = np.empty(columns * call[f.WORDS] * (PLANES + 1), np.int64)
    totals, steps = np.empty(columns, np.int64), np.empty(call[f.TOKENS])
    _both(address, planes, totals, steps, np.empty(call[f.TOKENS] * call[f.INPUTS], np.int32))


def counted_outputs(
    given: Activations,
    layers: Sequence["CpuLayer"],
    plans: Sequence[Plan],
    digits: Digits,
    dtype: torch.dtype,
) -> torch.Tensor:
    """``(tokens, all rows)`` by counting bits.

    Args:
        given: not whitened.
        layers: of one input, on axis ``out``; or one without parities on axis ``in``.
        plans: the layers'.
        digits: 1 (a8) or 2 (a15).
        dtype: float32 or bfloat16.
    """
    tokens, inputs = given.x.shape
    blocks: int = digits
    lifting, fields = 0, list[int]()
    if layers[0].axis == "in":
        code, shape = layers[0].code, layers[0].shape
        blocks = blocks_needed(code, shape, digits)
        lift = lift_plan(code, stream_groups(shape[1], code))
        lifting = lift.ctypes.data
    pieces, column = 0, 0
    for (bits, scales, bias, _, _, shape), plan in zip(layers, plans, strict=True):
        fields += (
            plan.address, bits.data_ptr(), scales.data_ptr(), bias.data_ptr(), column, pieces,
        )  # fmt: skip
        pieces += plan.pieces
        column += shape[0]
    out = torch.empty((tokens, column), dtype=dtype, device="cpu")
    call = array("q", [
        0, pieces, tokens, inputs, plan.words, blocks, LARGEST[digits], *given.fields(), lifting,
        0, 0, 0, 0, 0, 0, 0, out.data_ptr(), WRITTEN.index(dtype), column, len(layers),
        thread_count(), parallel_address(), PREPARE_ADDRESS, _PRODUCT_ADDRESS, *fields,
    ])  # fmt: skip
    _run(call.buffer_info()[0])
    return out


@lru_cache(maxsize=256)
def blocks_needed(code: LiftCode, shape: tuple[int, int], digits: Digits) -> int:
    """Blocks of 7 planes that lifted activations of a layer on axis ``in`` need.

    Raises:
        LiftError: the layer's integers could be too large, see `algo.lifted.bounds`.
    """
    return -(-bounds(shape, code, "in", digits).operand.bit_length() // PLANES)
