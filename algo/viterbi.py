"""Nearest codeword of a whole stream, for sliding codes: the Viterbi algorithm with tail-biting.

One trellis step per weight. Step ``t`` sees a window of L bits; the state that enters it is the
``L - shift[t-1]`` bits it shares with the window before. With both ends of the stream held to one
state the search is exact (Forney, Proc. IEEE 61(3), 1973). Tail-biting asks that this state be the
same at both ends, and leaves which one open:

* `encode_streams` takes the state on the best path through the stretch around the seam, found by a
  pass over it with free ends. Decisions further than some windows off hardly depend on each other,
  so this costs little and loses little: at most 0.07 % of the squared error was measured on streams
  of 200 weights. Streams of up to `EXACT_WEIGHTS` are searched exactly.
* `encode_streams_exactly` proves optimality: states are tried in the order of a lower bound from a
  pass with free start, until the bound passes the best closed path.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from algo.code import LiftCode
from algo.trellis import forward, trace

SEAM_WINDOWS = 20  # windows on either side of the seam that the first pass looks at
EXACT_WEIGHTS = 64  # in streams this short the seam is never far away
_SMALL_TABLE = 15  # bits of a window from which its float32 values crowd the second cache
_INT16_MAX = 32767
_TABLES_KEPT = 8  # codes whose tables stay in memory; at most 5 MB each
_INFINITE = np.float32(1e30)

Floats = npt.NDArray[np.float32]


class Trellis(NamedTuple):
    """What a code decodes to, twice.

    Attributes:
        plain: float32 ``(d, 2**L)``, `window_values`.
        dealt: ``(d + 1, 2**L)``, the same times `scale` in the order that `algo.trellis.forward`
            takes; float32, or int16 for windows whose tables would not stay in the cache.
        scale: what targets are multiplied by too. int16 tables of a code's own taps are exact.
    """

    plain: Floats
    dealt: Floats | npt.NDArray[np.int16]
    scale: np.float32


def _walsh(coefficients: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``out[.., w] = sum_m coefficients[.., m] * (-1)**|m & w|``: a fast transform, in place."""
    size, half = coefficients.shape[-1], 1
    while half < size:
        pairs = coefficients.reshape(-1, size // (2 * half), 2, half)
        even, odd = pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]
        pairs[:, :, 0], pairs[:, :, 1] = even, odd
        half *= 2
    return coefficients


def window_values(code: LiftCode, taps: npt.NDArray[np.float64] | None = None) -> Floats:
    """float32 ``(d, 2**L)``: the unit-variance weight each window value decodes to.

    `taps`, real and of the shape of ``code.window_taps``, stand in for the code's own.
    """
    real = code.window_taps * 2.0**-code.exponent if taps is None else taps
    masks = [1 << j for j in range(code.window)] + list(code.parities)
    coefficients = np.zeros((code.group, 1 << code.window))
    coefficients[:, masks] = real * _flips(masks)
    return _walsh(coefficients).astype(np.float32)


def table_taps(table: Floats, masks: Sequence[int]) -> npt.NDArray[np.float64]:
    """Least-squares taps ``(d, len(masks))`` of a table ``(d, 2**L)``: `window_values` backwards.

    Features are orthogonal over all windows, so a tap does not depend on which others there are.
    """
    coefficients = _walsh(table.astype(np.float64)) / table.shape[1]
    taps: npt.NDArray[np.float64] = coefficients[:, list(masks)] * _flips(masks)
    return taps


def _flips(masks: Sequence[int]) -> list[int]:
    """The product of the signs a mask names, a 0 bit being -1, is (-1)**(|mask| - |mask & w|)."""
    return [1 - 2 * (mask.bit_count() & 1) for mask in masks]


def _deal(values: Floats, shifts: tuple[int, ...]) -> Floats:
    """Window values, the bits that each step drops moved to the front, and a row of zeros."""
    out = np.zeros((len(values) + 1, values.shape[1]), values.dtype)
    for i, shift in enumerate(shifts):
        out[i] = values[i].reshape(-1, 1 << shift).T.reshape(-1)
    return out


@numba.njit(nogil=True, cache=True)
def _write_bits(path, shifts, bits):  # type: ignore[no-untyped-def]
    """Each window's lowest `shift` bits are the ones no later window sees: the stream, in order."""
    position = 0
    for t in range(len(path)):
        for b in range(shifts[t % len(shifts)]):
            bits[position] = (path[t] >> b) & 1
            position += 1


@numba.njit(nogil=True, cache=True)
def _closed(target, weighted, state, values, shifts, window, cost, entering, dropped, path):  # type: ignore[no-untyped-def]
    """Best path that starts and ends in `state`; fills `path`."""
    cost[:] = _INFINITE
    cost[state] = 0
    forward(target, weighted, 0, len(target), values, shifts, window, cost, entering, dropped)
    trace(state, 0, len(target), len(target), shifts, window, dropped, path)


@numba.njit(nogil=True, cache=True)
def _squared_error(target, weighted, path, plain):  # type: ignore[no-untyped-def]
    total = 0.0
    for t in range(weighted):
        miss = np.float64(target[t]) - np.float64(plain[t % len(plain), path[t]])
        total += miss * miss
    return total


@numba.njit(nogil=True, cache=True)
def _encode(targets, weighted, values, scale, plain, shifts, window, seam, exact, bits):  # type: ignore[no-untyped-def]
    length = targets.shape[1]
    widest = 1 << (window - shifts.min())
    cost = np.empty(widest, np.float32)
    entering = np.empty(1 << window, np.float32)
    dropped = np.empty((max(length, 2 * seam), widest), np.uint8)
    path = np.empty(max(length, 2 * seam), np.int64)
    best = np.empty(length, np.int64)
    states = 1 << (window - shifts[-1])
    for s in range(len(targets)):
        target = targets[s] * scale
        # the stretch around the seam, free at both ends, says which state to close the stream in
        first = (-seam) % length
        cost[:] = 0
        forward(target, weighted, first, 2 * seam, values, shifts, window, cost, entering, dropped)
        ends = 1 << (window - shifts[(seam - 1) % len(shifts)])
        trace(np.argmin(cost[:ends]), first, 2 * seam, length, shifts, window, dropped, path)
        state = path[seam] & (states - 1)
        _closed(target, weighted, state, values, shifts, window, cost, entering, dropped, best)
        if exact:
            least = _squared_error(targets[s], weighted, best, plain)
            cost[:] = 0
            forward(target, weighted, 0, length, values, shifts, window, cost, entering, dropped)
            trace(np.argmin(cost[:states]), 0, length, length, shifts, window, dropped, path)
            # what renormalising took off is the same for every state: the free optimum restores it
            offset = (
                _squared_error(targets[s], weighted, path, plain) - cost[:states].min() / scale**2
            )
            bound = cost[:states].astype(np.float64) / scale**2 + offset
            for candidate in np.argsort(bound):
                if bound[candidate] > least + 1e-6 * length:
                    break
                _closed(
                    target,
                    weighted,
                    candidate,
                    values,
                    shifts,
                    window,
                    cost,
                    entering,
                    dropped,
                    path,
                )
                error = _squared_error(targets[s], weighted, path, plain)
                if error < least:
                    least = error
                    best[:] = path[:length]
        _write_bits(best, shifts, bits[s])


@lru_cache(_TABLES_KEPT)
def _kept_trellis(code: LiftCode) -> Trellis:
    trellis = _make_trellis(code, window_values(code), np.float32(2.0**code.exponent))
    trellis.plain.setflags(write=False)
    trellis.dealt.setflags(write=False)
    return trellis


def _make_trellis(code: LiftCode, plain: Floats, scale: np.float32) -> Trellis:
    dealt = _deal(plain, code.shifts)
    if code.window < _SMALL_TABLE:
        return Trellis(plain, dealt, np.float32(1.0))
    return Trellis(plain, np.rint(dealt * scale).astype(np.int16), scale)


def make_trellis(code: LiftCode, taps: npt.NDArray[np.float64] | None = None) -> Trellis:
    """The tables to search with; those of a code's own taps are kept for the next call.

    `taps` as `window_values` takes them.
    """
    if taps is None:
        return _kept_trellis(code)
    return table_trellis(code, window_values(code, taps))


def table_trellis(code: LiftCode, plain: Floats) -> Trellis:
    """The tables to search with where window values are `plain`, whatever they are made of."""
    return _make_trellis(code, plain, np.float32(_INT16_MAX / np.abs(plain).max()))


def _run(
    targets: Floats, weights: int, code: LiftCode, trellis: Trellis, exact: bool
) -> npt.NDArray[np.uint8]:
    shifts = np.array(code.shifts, np.int64)
    seam_groups = -(-SEAM_WINDOWS * code.window // code.lifted)
    bits = np.empty((len(targets), targets.shape[1] // code.group * code.lifted), np.uint8)
    _encode(
        np.ascontiguousarray(targets, np.float32), weights, trellis.dealt,
        trellis.scale, trellis.plain, shifts,
        code.window, seam_groups * code.group, exact, bits,
    )  # fmt: skip
    return bits


def encode_streams(
    targets: Floats,
    weights: int,
    code: LiftCode,
    trellis: Trellis | None = None,
) -> npt.NDArray[np.uint8]:
    """Bits of a nearest codeword of every stream, tail-biting; see the module for how near.

    Args:
        targets: float32 ``(streams, G*d)``, unit variance; entries from `weights` on are ignored.
        weights: how many leading weights of each stream count.
        code: a sliding code.
        trellis: tables to search with instead of the code's own.

    Returns:
        uint8 0/1 of shape ``(streams, G*D)``.
    """
    exact = targets.shape[1] <= EXACT_WEIGHTS
    return _run(targets, weights, code, trellis or make_trellis(code), exact)


def encode_streams_exactly(targets: Floats, weights: int, code: LiftCode) -> npt.NDArray[np.uint8]:
    """As `encode_streams`, proved nearest among all codewords; slower by the states it must try."""
    return _run(targets, weights, code, make_trellis(code), exact=True)
