"""Nearest bits for streams of weights: the one entry to both searches, spread over threads."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt

from algo import block_search, viterbi
from algo.code import LiftCode
from algo.errors import LiftError
from algo.packing import Bits, stream_groups
from algo.viterbi import Floats

Taps = npt.NDArray[np.float64]

_PIECES = 8  # pieces of work per thread, so that progress moves and the last one is short


def default_workers() -> int:
    """Threads to search with: the processors this process may run on."""
    return len(os.sched_getaffinity(0))


def _encode_blocks(targets: Floats, weights: int, code: LiftCode, taps: Taps | None) -> Bits:
    """Every group for itself; the last group of a stream may have weights that do not count."""
    streams = len(targets)
    groups = targets.reshape(streams, -1, code.group)
    left = weights - (groups.shape[1] - 1) * code.group
    bits = np.empty((streams, groups.shape[1], code.lifted), np.uint8)
    whole = groups.shape[1] - (left < code.group)
    bits[:, :whole] = block_search.encode_groups(
        groups[:, :whole].reshape(-1, code.group), code, taps
    ).reshape(streams, whole, code.lifted)
    if left < code.group:
        bits[:, -1] = block_search.encode_groups(groups[:, -1, :left], code, taps)
    return bits.reshape(streams, -1)


def encode(
    targets: Floats,
    code: LiftCode,
    workers: int | None = None,
    on_progress: Callable[[int], None] | None = None,
    taps: Taps | None = None,
) -> Bits:
    """Bits whose decoded weights are nearest to `targets` in squared error.

    Args:
        targets: float32 ``(streams, n)`` of unit variance (divide by the row scale first).
        code: any code; sliding codes go to the Viterbi search, block codes to the group search.
        workers: threads; every processor by default.
        on_progress: called with the number of weights finished since the last call.
        taps: real taps ``(d, L + P)`` to search with instead of the code's integers, for learning.

    Returns:
        uint8 0/1 of shape ``(streams, G*D)`` with ``G = ceil(n/d)``. Does not depend on `workers`.

    Raises:
        LiftError: a target is NaN or infinite, the streams are narrower than a window, or a block
            code has parities.
    """
    targets = np.asarray(targets, np.float32)
    if not np.isfinite(targets).all():
        stream, n = np.argwhere(~np.isfinite(targets))[0].tolist()
        raise LiftError(f"target {n} of stream {stream} is {targets[stream, n]}: not a number")
    if code.parities and not code.overlap:
        raise LiftError(
            f"{code.name}: block codes with parities have no search; use a sliding code"
        )
    streams, weights = targets.shape
    groups = stream_groups(weights, code)
    padded = np.zeros((streams, groups * code.group), np.float32)
    padded[:, :weights] = targets
    search: Callable[[Floats], Bits]
    if code.overlap:
        trellis = viterbi.make_trellis(code, taps)
        search = partial(viterbi.encode_streams, weights=weights, code=code, trellis=trellis)
    else:
        search = partial(_encode_blocks, weights=weights, code=code, taps=taps)
    count = default_workers() if workers is None else workers
    if count < 1:
        raise LiftError(f"workers={count}: at least one is needed")
    pieces = [p for p in np.array_split(padded, count * _PIECES) if len(p)]
    if len(pieces) == 1:  # a thread for one stream would cost as much as a short stream does
        bits = search(pieces[0])
        if on_progress:
            on_progress(len(bits) * weights)
        return bits
    done = []
    with ThreadPoolExecutor(count) as pool:
        for bits in pool.map(search, pieces):
            done.append(bits)
            if on_progress:
                on_progress(len(bits) * weights)
    return np.concatenate(done) if done else np.empty((0, groups * code.lifted), np.uint8)


def encode_one(target: Floats, code: LiftCode) -> Bits:
    """Bits for one stream, uint8 ``(G*D,)``: `encode` without threads, for column after column."""
    weights = len(target)
    groups = stream_groups(weights, code)
    padded = np.zeros((1, groups * code.group), np.float32)
    padded[0, :weights] = target
    search = viterbi.encode_streams if code.overlap else _encode_blocks
    bits: Bits = search(padded, weights, code, None)[0]
    return bits
