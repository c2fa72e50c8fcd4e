"""The one-bit product of the operator ``liftquant::bitmm`` on a CPU, by counting bits."""

from array import array

import numba
import numpy as np
import torch

from gpu.cpu.bits import SLACK, WORD
from gpu.cpu.fields import int64s, share
from gpu.cpu.native import carray, claim, pointer
from gpu.cpu.threads import parallel_address, thread_count
from gpu.cpu.vectors import COUNTED, PLANES, bit_planes, count_one
from gpu.tables import as_int32

# what the product is told, as int64
(
    B_CLAIMED, B_PIECES, B_ROWS, B_COLUMNS, B_WORDS, B_BLOCKS, B_BITS, B_PLANES, B_TOTALS, B_OUT,
    B_THREADS, B_PARALLEL, B_WORKER, B_FIELDS,
) = range(14)  # fmt: skip
_PIECE = 64  # rows of a piece of work


def bitmm(words: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
    """`gpu.ops.bitmm` on checked arguments, on the CPU."""
    inner, columns = digits.shape
    rows, count = words.shape[0], -(-inner // WORD)
    lanes = np.zeros(count * rows + SLACK, np.uint64)
    halves = lanes[: count * rows].view("<u4").reshape(count, rows, 2)
    stored = as_int32(words).numpy().view(np.uint32)
    halves[:, :, 0] = stored[:, ::2].T
    halves[: stored.shape[1] // 2, :, 1] = stored[:, 1::2].T
    # the magnitude 128 needs a second block of planes
    blocks = 2 if bool((digits == -128).any()) else 1
    planes = np.empty((columns, blocks, count, PLANES + 1), np.int64)
    totals = np.empty((columns, blocks), np.int64)
    _planes(digits.T.contiguous().numpy(), planes, totals)
    out = torch.empty((rows, columns), dtype=torch.int32, device="cpu")
    call = array("q", [
        0, -(-rows // _PIECE), rows, columns, count, blocks, lanes.ctypes.data,
        planes.ctypes.data, totals.ctypes.data, out.data_ptr(), thread_count(),
        parallel_address(), _worker.address or 0,
    ])  # fmt: skip
    _product(call.buffer_info()[0])
    return out


@numba.njit(nogil=True, cache=True)
def _planes(digits, planes, totals):  # type: ignore[no-untyped-def]
    """Magnitudes of columns in blocks of 7 planes, with their signs."""
    columns, blocks, words, _ = planes.shape
    piece = np.zeros(WORD * words, np.uint8)
    for n in range(columns):
        for block in range(blocks):
            total = np.int64(0)
            for k in range(digits.shape[1]):
                magnitude = (abs(np.int32(digits[n, k])) >> PLANES * block) & 127
                piece[k] = magnitude | (128 if digits[n, k] < 0 else 0)
                total += magnitude
            totals[n, block] = total
            for word in range(words):
                at = ((n * blocks + block) * words + word) * 8 * (PLANES + 1)
                bit_planes(piece.ctypes.data + WORD * word, planes.ctypes.data + at)


@numba.cfunc(numba.void(numba.int64), cache=True)
def _worker(address):  # type: ignore[no-untyped-def]
    call = int64s(address, B_FIELDS)
    rows, columns, words, blocks = call[B_ROWS], call[B_COLUMNS], call[B_WORDS], call[B_BLOCKS]
    out = carray(pointer(call[B_OUT]), (rows, columns), np.int32)
    totals = int64s(call[B_TOTALS], columns * blocks)
    line, offsets = np.empty(_PIECE), np.zeros(1, np.int64)
    while True:
        first = claim(address + 8 * B_CLAIMED) * _PIECE
        if first >= rows:
            break
        many = min(_PIECE, rows - first)
        for n in range(columns):
            line[:] = 0
            for block in range(n * blocks, (n + 1) * blocks):
                for lane in range(0, many, COUNTED):
                    count_one(
                        call[B_BITS] + 8 * (first + lane), offsets.ctypes.data, 1, words, rows,
                        call[B_PLANES] + block * words * 8 * (PLANES + 1), totals[block],
                        np.float64(1 << PLANES * (block - n * blocks)),
                        line.ctypes.data + 8 * lane,
                    )  # fmt: skip
            for r in range(many):
                out[first + r, n] = np.int32(line[r])


@numba.njit(numba.void(numba.int64), nogil=True, cache=True)
def _product(address):  # type: ignore[no-untyped-def]
    call = int64s(address, B_FIELDS)
    worker, threads = call[B_WORKER], call[B_THREADS]
    share(call[B_PARALLEL], worker, address, threads, call[B_PIECES])
