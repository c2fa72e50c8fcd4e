"""Activations made ready on the CPU: whitened, quantised, lifted, in bit planes.

The floats are those of `algo.whitening.ordered_transform` and the integers those of
`algo.activations.quantise_activations`, bit for bit: numba without fastmath contracts and reorders
nothing. A token that holds NaN or infinity has the step NaN and zero integers.
"""

from array import array
from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import torch

from algo.activations import BASE, LARGEST
from algo.activations import Digits as DigitCount
from algo.code import LiftCode
from gpu.cpu import fields as f
from gpu.cpu.fields import doubles, floats, int16s, int32s, int64s, share
from gpu.cpu.native import carray, claim, pointer
from gpu.cpu.threads import parallel_address, thread_count
from gpu.cpu.vectors import COLUMNS, PLANES, bit_planes, ordered_row, ordered_rows

_READ = (torch.float32, torch.bfloat16)  # types that kernels read, by their `X_TYPE`
_INFINITY = 0x7F800000  # as the bits of a float32


class Activations(NamedTuple):
    """What is prepared, with the whitening it gets; `gpu.whiten.WhiteningTensors` says of what.

    Attributes:
        x: ``(tokens, n)``, float32 or bfloat16, neighbours of a row next to each other.
        left, right, pre: of the whitening.
    """

    x: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    pre: torch.Tensor | None

    def fields(self) -> list[int]:
        """Those of a call from `X` to `RIGHT_STRIDE`."""
        x, left, right, pre = self
        return [
            x.data_ptr(), _READ.index(x.dtype), x.stride(0), left.data_ptr(), right.data_ptr(),
            0 if pre is None else pre.data_ptr(), left.shape[0], right.shape[0], right.shape[1],
        ]  # fmt: skip


def readable(x: torch.Tensor) -> torch.Tensor:
    """`x` as kernels read it: itself where its type and strides are theirs."""
    x = x.resolve_neg()  # a view may say that its memory's signs are to be turned
    typed = x if x.dtype in _READ else x.float()
    return typed if typed.stride(1) == 1 else typed.contiguous()


@numba.njit(inline="always")
def _product(left, left_stride, right, right_stride, out, out_stride, rows, columns, terms):  # type: ignore[no-untyped-def]
    """float32 products in order; addresses and strides in elements; columns are padded to 16."""
    for column in range(0, columns, COLUMNS):
        row = 0
        while row + 4 <= rows:
            ordered_rows(
                left + 4 * row * left_stride, left_stride, right + 4 * column, right_stride,
                out + 4 * (row * out_stride + column), out_stride, terms,
            )  # fmt: skip
            row += 4
        while row < rows:
            ordered_row(
                left + 4 * row * left_stride, left_stride, right + 4 * column, right_stride,
                out + 4 * (row * out_stride + column), out_stride, terms,
            )  # fmt: skip
            row += 1


@numba.njit(inline="always")
def _whiten(call, token, read, half, square):  # type: ignore[no-untyped-def]
    """The token's whitened square into the rows of `square`, which are those of `half`."""
    outer, inner = call[f.OUTER], call[f.INNER]
    n, stride = outer * inner, half.shape[1]
    first = call[f.X] + token * call[f.X_STRIDE] * (2 if call[f.X_TYPE] else 4)
    if call[f.X_TYPE]:
        short, bits = int16s(first, n), read.view(np.int32)
        for k in range(n):
            bits[k] = np.int32(short[k]) << np.int32(16)
    else:
        given = floats(first, n)
        for k in range(n):
            read[k] = given[k]
    if call[f.PRE]:
        pre = floats(call[f.PRE], n)
        for k in range(n):
            read[k] *= pre[k]
    at = half.ctypes.data
    _product(
        read.ctypes.data,
        inner,
        call[f.RIGHT],
        call[f.RIGHT_STRIDE],
        at,
        stride,
        outer,
        inner,
        inner,
    )
    _product(call[f.LEFT], outer, at, stride, square.ctypes.data, stride, outer, inner, outer)


@numba.njit(inline="always")
def _quantise(call, square, integers):  # type: ignore[no-untyped-def]
    """The integers of a whitened square; the step is returned."""
    outer, inner, largest = call[f.OUTER], call[f.INNER], call[f.LARGEST_AT]
    most = np.int32(0)
    for row in range(outer):
        bits = square[row].view(np.int32)
        for column in range(inner):
            most = max(most, bits[column] & np.int32(0x7FFFFFFF))
    if most >= _INFINITY:
        integers[:] = 0
        return np.float64(np.nan)
    magnitude = np.empty(1, np.int32)
    magnitude[0] = most
    step = np.float64(np.float32(np.float64(magnitude.view(np.float32)[0]) / largest))
    if not step > 0:
        step = np.float64(1)
    limit = np.float64(largest)
    for row in range(outer):
        for column in range(inner):
            value = np.rint(np.float64(square[row, column]) / step)
            value = min(max(value, -limit), limit)
            integers[row * inner + column] = np.int32(value)
    return step


@lru_cache(maxsize=256)
def lift_plan(code: LiftCode, groups: int) -> npt.NDArray[np.int64]:
    """D, d, D + V, G and the taps of a code without parities, for axis ``in``."""
    head = [code.lifted, code.group, code.lifted + code.overlap, groups]
    return np.array([*head, *code.taps.astype(np.int64).reshape(-1).tolist()], np.int64)


@numba.njit(inline="always")
def _lift(address, integers, lifted):  # type: ignore[no-untyped-def]
    """`algo.lifted.lift` of one token."""
    head = int64s(address, 4)
    bits, group, features, groups = head[0], head[1], head[2], head[3]
    taps = int64s(address + 32, group * features)
    lifted[:] = 0
    for g in range(groups):
        for i in range(group):
            if g * group + i < len(integers):
                value = np.int64(integers[g * group + i])
                for j in range(features):
                    lifted[(g * bits + j) % (groups * bits)] += taps[i * features + j] * value


@numba.njit(inline="always")
def _planes(call, token, values):  # type: ignore[no-untyped-def]
    """Magnitudes of integers in planes, blocks of 7 with the signs; and each block's total."""
    words, blocks, inner = call[f.WORDS], call[f.BLOCKS], len(values)
    piece = np.zeros(64 * words, np.uint8)
    size = 8 * (PLANES + 1)
    for block in range(blocks):
        total, shift = np.int64(0), PLANES * block
        for k in range(inner):
            magnitude = (abs(values[k]) >> shift) & 127
            piece[k] = magnitude | (128 if values[k] < 0 else 0)
            total += magnitude
        index = token * blocks + block
        int64s(call[f.TOTALS_AT], index + 1)[index] = total
        for n in range(words):
            bit_planes(piece.ctypes.data + 64 * n, call[f.PLANES_AT] + (index * words + n) * size)


@numba.njit(inline="always")
def _digits(call, token, integers):  # type: ignore[no-untyped-def]
    """Integers as rows of int8 digits of base 128, least significant first, zeros after them."""
    count, stride = call[f.DIGITS], call[f.DIGIT_STRIDE]
    rows = carray(pointer(call[f.DIGITS_AT] + token * count * stride), (count, stride), np.int8)
    for k in range(len(integers)):
        upper = (integers[k] + BASE // 2) // BASE if count > 1 else 0
        rows[0, k] = integers[k] - BASE * upper
        if count > 1:
            rows[1, k] = upper
    rows[:, len(integers) :] = 0


@numba.cfunc(numba.void(numba.int64), cache=True)
def _prepare_worker(address):  # type: ignore[no-untyped-def]
    """Prepare the tokens that this thread claims."""
    call = int64s(address, f.CALL_FIELDS)
    outer, inner, n = call[f.OUTER], call[f.INNER], call[f.INPUTS]
    wide = -(-inner // COLUMNS) * COLUMNS
    half, square = np.empty((outer, wide), np.float32), np.empty((outer, wide), np.float32)
    read, lifted = np.empty(n, np.float32), np.empty(0, np.int64)
    if call[f.LIFT]:
        head = int64s(call[f.LIFT], 4)
        lifted = np.empty(head[0] * head[3], np.int64)
    while True:
        token = claim(address + 8 * f.CLAIMED)
        if token >= call[f.TOKENS]:
            break
        _whiten(call, token, read, half, square)
        integers = int32s(call[f.INTEGERS_AT] + 4 * token * n, n)
        step = _quantise(call, square, integers)
        doubles(call[f.STEPS_AT], token + 1)[token] = step
        if call[f.DIGITS_AT]:
            _digits(call, token, integers)
        elif call[f.LIFT]:
            _lift(call[f.LIFT], integers, lifted)
            _planes(call, token, lifted)
        else:
            _planes(call, token, integers)


PREPARE_ADDRESS = _prepare_worker.address or 0


@numba.njit(cache=True)
def prepare_all(address, integers):  # type: ignore[no-untyped-def]
    """Prepare all tokens; `integers` is where these are kept until the kernels are done."""
    call = int64s(address, f.CALL_FIELDS)
    call[f.CLAIMED], call[f.INTEGERS_AT] = 0, integers.ctypes.data
    worker, threads = call[f.PREPARE_WORKER], call[f.THREADS]
    share(call[f.PARALLEL], worker, address, threads, call[f.TOKENS])


@numba.njit(numba.void(numba.int64), nogil=True, cache=True)
def _run(address):  # type: ignore[no-untyped-def]
    call = int64s(address, f.CALL_FIELDS)
    prepare_all(address, np.empty(call[f.TOKENS] * call[f.INPUTS], np.int32))


def digit_rows(
    given: Activations, digits: DigitCount, inner: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Digits as the rows of a product, for decoded weights.

    Returns:
        int8 ``(tokens * digits, inner)``, a token's least significant digit first, zeros after its
        n inputs; and float64 steps ``(tokens,)``, NaN where a token held NaN or infinity.
    """
    tokens, n = given.x.shape
    rows = torch.empty((tokens * digits, inner), dtype=torch.int8, device="cpu")
    steps = torch.empty(tokens, dtype=torch.float64, device="cpu")
    call = array("q", bytes(8 * f.CALL_FIELDS))
    call[f.TOKENS], call[f.INPUTS], call[f.LARGEST_AT] = tokens, n, LARGEST[digits]
    call[f.X : f.RIGHT_STRIDE + 1] = array("q", given.fields())
    call[f.DIGITS], call[f.DIGITS_AT], call[f.DIGIT_STRIDE] = digits, rows.data_ptr(), inner
    call[f.STEPS_AT], call[f.THREADS], call[f.PARALLEL] = (
        steps.data_ptr(),
        thread_count(),
        parallel_address(),
    )
    call[f.PREPARE_WORKER] = PREPARE_ADDRESS
    _run(call.buffer_info()[0])
    return rows, steps
