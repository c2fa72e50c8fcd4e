"""The integer layer by decoding: what many tokens take.

Weights become two planes of int8 digits, a part of a layer at a time, and torch multiplies them.
`torch._int_mm` shifts its first operand to unsigned bytes; on processors that then add pairs of
products in int16 (before VNNI) the second must stay within +-64 to be exact, as the weights' digits
do: ``255 * 64 * 2 < 2**15``. So activations come first.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np
import torch

from algo.activations import BASE, Digits
from gpu.cpu.bits import WORD
from gpu.cpu.decoding import PIECE, decode, decode_worker
from gpu.cpu.fields import doubles, floats, int32s, int64s, share
from gpu.cpu.finish import WRITTEN, finish
from gpu.cpu.native import claim
from gpu.cpu.plan import plan_of
from gpu.cpu.prepare import Activations, digit_rows
from gpu.cpu.threads import parallel_address, thread_count
from gpu.cpu.turning import turned_round
from gpu.cpu.vectors import SUMMED

if TYPE_CHECKING:
    from gpu.cpu.layer import CpuLayer

PART = 1 << 24  # bytes of both planes of a part

# what finishing is told, as int64
(
    F_CLAIMED, F_TOKENS, F_DIGITS, F_ROWS, F_LOW, F_HIGH, F_STRIDE, F_SCALES, F_BIAS, F_STEPS,
    F_OUT, F_OUT_TYPE, F_OUT_STRIDE, F_THREADS, F_PARALLEL, F_WORKER, F_FIELDS,
) = range(17)  # fmt: skip


class _Part(NamedTuple):
    """Planes of some rows: each is what `torch._int_mm` takes second, ``(inner, columns)``."""

    first: int
    rows: int
    low: torch.Tensor
    high: torch.Tensor


def decoded_outputs(
    given: Activations, layers: Sequence["CpuLayer"], digits: Digits, dtype: torch.dtype
) -> torch.Tensor:
    """``(tokens, all rows)``, each layer decoded and multiplied part by part.

    Args:
        given: not whitened.
        layers: of one input.
        digits: 1 (a8) or 2 (a15).
        dtype: float32 or bfloat16.
    """
    inner = max(_inner(layer) for layer in layers)
    columns, steps = digit_rows(given, digits, inner)
    rows = sum(layer.shape[0] for layer in layers)
    out = torch.empty((len(steps), rows), dtype=dtype, device="cpu")
    offset = 0
    for layer in layers:
        for part in _parts(layer, inner):
            low, high = torch._int_mm(columns, part.low), torch._int_mm(columns, part.high)
            call = array("q", [
                0, len(steps), digits, part.rows, low.data_ptr(), high.data_ptr(), low.shape[1],
                layer.scales.data_ptr() + 4 * part.first, layer.bias.data_ptr() + 4 * part.first,
                steps.data_ptr(), out[:, offset + part.first :].data_ptr(), WRITTEN.index(dtype),
                out.shape[1], thread_count(), parallel_address(), _finish_worker.address or 0,
            ])  # fmt: skip
            _finish(call.buffer_info()[0])
        offset += layer.shape[0]
    return out


def _whole_lanes(groups: int) -> int:
    return -(-groups // SUMMED) * SUMMED


def _inner(layer: "CpuLayer") -> int:
    """Columns that a part's planes have at least: whole words, or whole lanes of groups."""
    columns, group = layer.shape[1], layer.code.group
    if layer.axis == "out":
        return -(-columns // WORD) * WORD
    return _whole_lanes(-(-columns // group)) * group


def _parts(layer: "CpuLayer", inner: int) -> Iterator[_Part]:
    """The layer's planes; those made before are overwritten."""
    rows, columns = layer.shape
    group = layer.code.group
    if layer.axis == "out":
        plan = plan_of(layer.code, "out", layer.shape)
        groups = -(-rows // group)
        step = max(1, PART // (2 * inner * group * SUMMED)) * SUMMED
        most = _whole_lanes(min(step, groups)) * group
        planes = torch.empty((2, most, inner), dtype=torch.int8, device="cpu")
        for first in range(0, groups, step):
            many = min(step, groups - first)
            _decode(plan.address, layer.bits, plan.words, first, many, planes)
            row = first * group
            low, high = planes[:, : _whole_lanes(many) * group].mT
            yield _Part(row, min(many * group, rows - row), low, high)
        return
    groups, blocks = -(-columns // group), -(-rows // WORD)
    step = max(1, PART // (2 * inner * WORD))
    planes = torch.empty((2, inner, min(step, blocks) * WORD), dtype=torch.int8, device="cpu")
    for first in range(0, blocks, step):
        many = min(step, blocks - first)
        plan = plan_of(layer.code, "out", (columns, many * WORD))
        bits = turned_round(layer.bits, layer.code, layer.shape, first, many)
        _decode(plan.address, bits, many, 0, groups, planes)
        row = first * WORD
        low, high = planes[:, :, : many * WORD]
        yield _Part(row, min(many * WORD, rows - row), low, high)


def _decode(
    plan: int, bits: torch.Tensor, words: int, first: int, groups: int, planes: torch.Tensor
) -> None:
    pieces = words * -(-groups // PIECE)
    call = array("q", [
        0, pieces, plan, bits.data_ptr(), words, first, groups, planes[0].data_ptr(),
        planes[1].data_ptr(), planes.shape[2], thread_count(), parallel_address(),
        decode_worker.address or 0,
    ])  # fmt: skip
    decode(call.buffer_info()[0])


@numba.cfunc(numba.void(numba.int64), cache=True)
def _finish_worker(address):  # type: ignore[no-untyped-def]
    call = int64s(address, F_FIELDS)
    rows, digits, stride = call[F_ROWS], call[F_DIGITS], call[F_STRIDE]
    scales, bias = floats(call[F_SCALES], rows), floats(call[F_BIAS], rows)
    steps = doubles(call[F_STEPS], call[F_TOKENS])
    sums, results = np.empty(rows), np.empty(rows, np.float32)
    while True:
        token = claim(address + 8 * F_CLAIMED)
        if token >= call[F_TOKENS]:
            break
        sums[:] = 0
        for k in range(digits):
            at = 4 * (token * digits + k) * stride
            low, high = int32s(call[F_LOW] + at, rows), int32s(call[F_HIGH] + at, rows)
            worth = np.float64(BASE**k)
            for r in range(rows):
                sums[r] += worth * (np.float64(low[r]) + BASE * np.float64(high[r]))
        to = call[F_OUT] + token * call[F_OUT_STRIDE] * (2 if call[F_OUT_TYPE] else 4)
        finish(sums, scales, bias, steps[token], results, call[F_OUT_TYPE], to)


@numba.njit(numba.void(numba.int64), nogil=True, cache=True)
def _finish(address):  # type: ignore[no-untyped-def]
    call = int64s(address, F_FIELDS)
    worker, threads = call[F_WORKER], call[F_THREADS]
    share(call[F_PARALLEL], worker, address, threads, call[F_TOKENS])
