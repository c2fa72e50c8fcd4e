"""The Viterbi search piece by piece: a stretch of every stream, going on from where it was.

With feedback on axis ``in`` the later part of a stream is not known yet when the earlier is chosen.
A stretch is searched from the state the stream is in, together with what is expected of the groups
after it, of which only the bits of the stretch are kept. The last stretch closes the stream.
"""

import numba
import numpy as np
import numpy.typing as npt

from algo.code import LiftCode
from algo.trellis import forward, trace
from algo.viterbi import SEAM_WINDOWS, Floats, make_trellis

LOOKAHEAD_WINDOWS = 4  # windows past the stretch that the search looks at

States = npt.NDArray[np.int64]
Paths = npt.NDArray[np.int64]


@numba.njit(nogil=True, cache=True)
def _seam_states(targets, weighted, values, scale, shifts, window, seam, states):  # type: ignore[no-untyped-def]
    length = targets.shape[1]
    widest = 1 << (window - shifts.min())
    cost = np.empty(widest, np.float32)
    entering = np.empty(1 << window, np.float32)
    dropped = np.empty((2 * seam, widest), np.uint8)
    path = np.empty(2 * seam, np.int64)
    for s in range(len(targets)):
        first = (-seam) % length
        cost[:] = 0
        target = targets[s] * scale
        forward(target, weighted, first, 2 * seam, values, shifts, window, cost, entering, dropped)
        ends = 1 << (window - shifts[(seam - 1) % len(shifts)])
        trace(np.argmin(cost[:ends]), first, 2 * seam, length, shifts, window, dropped, path)
        states[s] = path[seam] & ((1 << (window - shifts[-1])) - 1)


@numba.njit(nogil=True, cache=True)
def _stretch(  # type: ignore[no-untyped-def]
    targets, weighted, first, steps, ahead, values, scale, shifts, window, entry, closing, paths
):
    length = targets.shape[1]
    widest = 1 << (window - shifts.min())
    cost = np.empty(widest, np.float32)
    entering = np.empty(1 << window, np.float32)
    total = min(steps + ahead, length - first)
    dropped = np.empty((total, widest), np.uint8)
    path = np.empty(total, np.int64)
    last = (first + total - 1) % len(shifts)
    ends = 1 << (window - shifts[last])
    for s in range(len(targets)):
        cost[:] = np.float32(1e30)
        cost[entry[s]] = 0
        forward(targets[s], weighted, first, total, values, shifts, window, cost, entering, dropped)
        end = closing[s] if first + total == length else np.argmin(cost[:ends])
        trace(end, first, total, length, shifts, window, dropped, path)
        paths[s, first : first + steps] = path[:steps]
        # a window, without the bits that its step drops, is the state that the next one enters
        entry[s] = path[steps - 1] >> shifts[(first + steps - 1) % len(shifts)]


def closing_states(targets: Floats, weights: int, code: LiftCode) -> States:
    """The state in which to begin and end every stream, int64 ``(streams,)``."""
    shifts = np.array(code.shifts, np.int64)
    seam = -(-SEAM_WINDOWS * code.window // code.lifted) * code.group
    states = np.empty(len(targets), np.int64)
    trellis = make_trellis(code)
    _seam_states(targets, weights, trellis.dealt, trellis.scale, shifts, code.window, seam, states)
    return states


def search_stretch(
    targets: Floats, weights: int, code: LiftCode,
    first: int, count: int, entry: States, closing: States, paths: Paths,
) -> None:  # fmt: skip
    """Search weights ``first .. first + count`` of every stream.

    Args:
        targets: float32 ``(streams, G*d)``; what follows the stretch is looked at, not decided.
        weights: how many leading weights of a stream count.
        code: a sliding code.
        first, count: the stretch, both multiples of d.
        entry: state of every stream at `first`; replaced by that at the end of the stretch.
        closing: state to end the streams in.
        paths: int64 ``(streams, G*d)``, the window of every weight; the stretch is filled in.
    """
    shifts = np.array(code.shifts, np.int64)
    ahead = -(-LOOKAHEAD_WINDOWS * code.window // code.lifted) * code.group
    trellis = make_trellis(code)
    _stretch(
        targets, weights, first, count, ahead, trellis.dealt, trellis.scale, shifts, code.window,
        entry, closing, paths,
    )  # fmt: skip


def path_bits(paths: Paths, code: LiftCode) -> npt.NDArray[np.uint8]:
    """Bits of streams from the windows of their weights: uint8 ``(streams, G*D)``."""
    groups = paths.reshape(len(paths), -1, code.group)
    columns = [
        (groups[:, :, i] >> b) & 1 for i, shift in enumerate(code.shifts) for b in range(shift)
    ]
    return np.stack(columns, axis=2).reshape(len(paths), -1).astype(np.uint8)
