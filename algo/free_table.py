"""What any decoder of a window could reach: a free value for every window, found by Lloyd steps.

A code's taps and parities make a table of ``2**L`` values per weight of the group. Here every entry
of that table is free: streams are encoded with the same Viterbi search, and each entry becomes the
mean of the weights that chose it (Lloyd, IEEE Trans. IT-28, 1982). Such a table is no format, only
the measure of how much of a code's gap is due to its being made of taps, and how much to its
window. Lloyd steps end in a local optimum: the best of several starts is the best table known, not
a proof that there is no better one.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from algo.code import LiftCode
from algo.packing import Bits
from algo.viterbi import Floats, Trellis, encode_streams, table_trellis

_STREAM = 2048  # weights per stream, about
_KEEP = 0.7  # of the counts of earlier steps, so that entries that are seldom chosen settle


def window_indices(bits: Bits, code: LiftCode) -> npt.NDArray[np.int64]:
    """The window value, bit ``j`` of weight ``2**j``, that every weight is decoded from.

    uint8 0/1 of shape ``(streams, G*D)`` to int64 of shape ``(streams, G*d)``.
    """
    n = bits.shape[1]
    firsts = np.arange(n // code.lifted)[:, None] * code.lifted + np.array(code.starts)
    places = (firsts.reshape(-1, 1) + np.arange(code.window)) % n
    indices: npt.NDArray[np.int64] = bits[:, places].astype(np.int64) @ (
        1 << np.arange(code.window)
    )
    return indices


def _samples(rng: np.random.Generator, weights: int, group: int) -> Floats:
    length = _STREAM // group * group
    return rng.standard_normal((-(-weights // length), length), dtype=np.float32)


def _chosen(targets: Floats, code: LiftCode, trellis: Trellis) -> npt.NDArray[np.int64]:
    """Flat place in the table, ``i * 2**L + window``, of every weight."""
    bits = encode_streams(targets, targets.shape[1], code, trellis)
    rows = np.arange(targets.shape[1]) % code.group
    return window_indices(bits, code) + (rows << code.window)


def train_table(
    code: LiftCode,
    table: Floats,
    steps: int,
    weights: int,
    seed: int,
    on_step: Callable[[int], None] | None = None,
) -> Floats:
    """Lloyd steps from `table`, float32 ``(d, 2**L)``, each on `weights` fresh samples of N(0, 1).

    Only the geometry of `code` counts.
    """
    rng = np.random.default_rng([seed, 0x465245])
    counts, sums = np.full(table.size, 1e-3), table.astype(np.float64).ravel() * 1e-3
    for step in range(steps):
        targets = _samples(rng, weights, code.group)
        trellis = table_trellis(code, (sums / counts).reshape(table.shape).astype(np.float32))
        chosen = _chosen(targets, code, trellis).ravel()
        counts = _KEEP * counts + np.bincount(chosen, minlength=table.size)
        sums = _KEEP * sums + np.bincount(chosen, targets.ravel(), minlength=table.size)
        if on_step:
            on_step(step + 1)
    trained: Floats = (sums / counts).reshape(table.shape).astype(np.float32)
    return trained


def table_mse(code: LiftCode, table: Floats, weights: int, seed: int) -> tuple[float, float]:
    """MSE of a table on fresh samples of N(0, 1), and its standard error over groups."""
    targets = _samples(np.random.default_rng([seed, 0x4D5345]), weights, code.group)
    chosen = _chosen(targets, code, table_trellis(code, table))
    errors = np.square(targets - table.ravel()[chosen].astype(np.float64))
    groups = errors.reshape(-1, code.group).mean(axis=1)
    return float(groups.mean()), float(groups.std(ddof=1) / len(groups) ** 0.5)
