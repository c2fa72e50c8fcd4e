"""The inner loops of the Viterbi search: extend every state's best path by one weight, and go back.

A window is ``(state << shift) | low``: `state` is what the next window shares with this one, and
`low` the `shift` bits that no later window sees. All windows with one `state` compete, and the
winner's `low` is recorded. The window is entered from the state formed by its lowest bits, so the
costs are first dealt out by `low`; everything after that has unit stride and compiles to SIMD.
"""

import numba
import numpy as np

_RENORMALISE = 128  # steps after which the least cost is subtracted, to keep float32 exact enough
_BLOCK = 1024  # entering states looked at together: four paths of so many float32 stay in L1
_SPAN = 256  # shorter runs of entering states are repeated up to this, for the sake of long loops


@numba.njit(nogil=True, fastmath=True, cache=True)
def _deal(cost, shift, runs, entering, span):  # type: ignore[no-untyped-def]
    """``entering[low*span + r] = cost[(r << shift) | low]`` for ``r < runs``."""
    if shift == 1:  # constant strides compile to shuffles
        for r in range(runs):
            for low in range(np.uint64(2)):
                entering[span * low + r] = cost[np.uint64(2) * r + low]
    elif shift == 2:
        for r in range(runs):
            for low in range(np.uint64(4)):
                entering[span * low + r] = cost[np.uint64(4) * r + low]
    elif shift == 3:
        for r in range(runs):
            for low in range(np.uint64(8)):
                entering[span * low + r] = cost[np.uint64(8) * r + low]
    else:
        ways = np.uint64(1 << shift)
        for low in range(ways):
            for r in range(runs):
                entering[span * low + r] = cost[ways * r + low]


@numba.njit(nogil=True, fastmath=True, cache=True)
def _repeat(entering, shift, filled, span):  # type: ignore[no-untyped-def]
    """Fill every span with copies of its first `filled` costs: the fresh bits take all values."""
    while filled < span:
        for low in range(np.uint64(1 << shift)):
            for r in range(filled):
                entering[span * low + filled + r] = entering[span * low + r]
        filled += filled


@numba.njit(nogil=True, fastmath=True, cache=True)
def _two(entering, values, states, span, target, cost, choice):  # type: ignore[no-untyped-def]
    """The two paths that meet in each state, where a step drops one bit."""
    for high in range(np.uint64(0), states, span):
        for r in range(span):
            q = high + r
            miss0 = target - np.float32(values[q])
            miss1 = target - np.float32(values[states + q])
            total0 = entering[r] + miss0 * miss0
            total1 = entering[span + r] + miss1 * miss1
            better = total1 < total0
            cost[q] = total1 if better else total0
            choice[q] = np.uint8(1) if better else np.uint8(0)


@numba.njit(nogil=True, fastmath=True, cache=True)
def _four(entering, values, states, span, target, low, cost, choice):  # type: ignore[no-untyped-def]
    """Four of the paths that meet in each state, from `low` on; the first four start the match."""
    two, three = np.uint64(2), np.uint64(3)
    block = min(span, np.uint64(_BLOCK))
    for first in range(np.uint64(0), span, block):
        for high in range(np.uint64(0), states, span):
            for r in range(first, first + block):
                q = high + r
                miss0 = target - np.float32(values[q])
                miss1 = target - np.float32(values[states + q])
                miss2 = target - np.float32(values[two * states + q])
                miss3 = target - np.float32(values[three * states + q])
                total0 = entering[r] + miss0 * miss0
                total1 = entering[span + r] + miss1 * miss1
                total2 = entering[two * span + r] + miss2 * miss2
                total3 = entering[three * span + r] + miss3 * miss3
                left = total1 if total1 < total0 else total0
                left_low = low + 1 if total1 < total0 else low
                right = total3 if total3 < total2 else total2
                right_low = low + 3 if total3 < total2 else low + 2
                best = right if right < left else left
                best_low = right_low if right < left else left_low
                if low == 0:
                    cost[q] = best
                    choice[q] = np.uint8(best_low)
                else:
                    old = cost[q]
                    cost[q] = best if best < old else old
                    choice[q] = np.uint8(best_low) if best < old else choice[q]


@numba.njit(nogil=True, fastmath=True, cache=True)
def forward(  # type: ignore[no-untyped-def]
    target, weighted, first, steps, values, shifts, window, cost, entering, dropped
):
    """Extend `cost` (by state) over `steps` steps from position `first`; record choices.

    Row ``i`` of `values` holds the decoded weight of ``(state << shift) | low`` at
    ``low * states + state``. One more row is zero: what the weights from `weighted` on, which do
    not count, are compared with.
    """
    group = len(shifts)
    length = len(target)
    for k in range(steps):
        t = (first + k) % length
        i = t % group
        before, shift = shifts[i - 1], shifts[i]
        states = 1 << (window - shift)
        runs = 1 << max(0, window - shift - before)
        span = max(runs, min(states, _SPAN))
        if window - before < shift:  # fewer states enter than there are choices
            for low in range(1 << shift):
                entering[low * span : (low + 1) * span] = cost[low & ((1 << (window - before)) - 1)]
        else:
            _deal(cost, shift, np.uint64(runs), entering, np.uint64(span))
            _repeat(entering, shift, np.uint64(runs), np.uint64(span))
        column = values[i if t < weighted else group]
        x = target[t] if t < weighted else np.float32(0.0)
        choice = dropped[k]
        if shift == 1:
            _two(entering, column, np.uint64(states), np.uint64(span), x, cost, choice)
        else:
            for low in range(0, 1 << shift, 4):
                _four(
                    entering[low * span :], column[low * states :], np.uint64(states),
                    np.uint64(span), x, np.int32(low), cost, choice,
                )  # fmt: skip
        if k % _RENORMALISE == _RENORMALISE - 1:
            least = cost[:states].min()
            for state in range(states):
                cost[state] -= least


@numba.njit(nogil=True, cache=True)
def trace(state, first, steps, length, shifts, window, dropped, path):  # type: ignore[no-untyped-def]
    """Follow recorded choices back from `state`, filling `path`; return the first state."""
    group = len(shifts)
    for k in range(steps - 1, -1, -1):
        i = ((first + k) % length) % group
        path[k] = (state << shifts[i]) | dropped[k, state]
        state = path[k] & ((1 << (window - shifts[i - 1])) - 1)
    return state
