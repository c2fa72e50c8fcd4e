"""Nearest codeword for block codes: exhaustive over sixteen bits, a beam over the rest.

Split the bits of a group into two parts of at most eight, ``u`` and ``v``, and a head of the
remaining ones. With partial sums ``U[u]``, ``V[v]`` the distance to a target ``z`` is

    |z - U[u] - V[v]|**2 = const + (|U[u]|**2 - 2 z.U[u]) + (|V[v]|**2 - 2 z.V[v]) + 2 U[u].V[v]

whose last term does not depend on ``z``: a table, made once per code. Trying all ``2**16`` pairs
then costs one addition and one minimum each, whatever d is. Codes of up to 16 bits are searched
exactly. In longer ones every head pattern is rated by what it leaves to the other bits, measured in
units of their spread, and the best `BEAM` heads are searched exhaustively.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from algo.code import LiftCode
from algo.viterbi import Floats

PART = 8  # bits in each exhaustively searched part
BEAM = 32  # heads that are searched exhaustively
TILE = 4  # groups searched side by side, so that each load of the pair table serves them all
_RIDGE = 0.02  # keeps the spread invertible when few bits are left


@numba.njit(nogil=True, fastmath=True, cache=True)
def _linear(target, sums, norms, out):  # type: ignore[no-untyped-def]
    """``|S|**2 - 2 z.S`` for every pattern's partial sum ``S``; `sums` is ``(d, patterns)``."""
    for p in range(len(out)):
        out[p] = norms[p]
    for i in range(len(target)):
        scale = np.float32(-2.0) * target[i]
        for p in range(len(out)):
            out[p] += scale * sums[i, p]


@numba.njit(nogil=True, fastmath=True, cache=True)
def _add(a, b, out):  # type: ignore[no-untyped-def]
    for p in range(len(out)):
        out[p] = a[p] + b[p]


@numba.njit(nogil=True, cache=True)
def _where_least(a, b):  # type: ignore[no-untyped-def]
    """Index of the least sum of two rows; two chains of comparisons, to hide their latency."""
    even, odd = a[0] + b[0], np.float32(np.inf)
    at_even, at_odd = 0, 0
    for p in range(1, len(a) - 1, 2):
        x, y = a[p] + b[p], a[p + 1] + b[p + 1]
        if x < odd:
            odd, at_odd = x, p
        if y < even:
            even, at_even = y, p + 1
    last = len(a) - 1
    if a[last] + b[last] < even:
        even, at_even = a[last] + b[last], last
    return at_odd if odd < even else at_even


@numba.njit(nogil=True, fastmath=True, cache=True)
def _least_over_u(u_cost, cross, best):  # type: ignore[no-untyped-def]
    """``best[k, v] = min_u u_cost[k, u] + cross[u, v]`` for four problems that share each load."""
    best[:] = np.float32(np.inf)
    whole = len(cross) // 4 * 4
    for u in range(0, whole, 4):
        for v in range(cross.shape[1]):
            one, two, three, four = cross[u, v], cross[u + 1, v], cross[u + 2, v], cross[u + 3, v]
            for k in range(TILE):
                first = min(u_cost[k, u] + one, u_cost[k, u + 1] + two)
                second = min(u_cost[k, u + 2] + three, u_cost[k, u + 3] + four)
                best[k, v] = min(best[k, v], min(first, second))
    for u in range(whole, len(cross)):
        for v in range(cross.shape[1]):
            for k in range(TILE):
                best[k, v] = min(best[k, v], u_cost[k, u] + cross[u, v])


@numba.njit(nogil=True, cache=True)
def _search(  # type: ignore[no-untyped-def]
    targets, whitened, sums_u, sums_v, sums_h, sums_r, norm_u, norm_v, norm_h, norm_r, cross,
    cross_t, head_u, head_v, beam, out,
):  # fmt: skip
    heads = len(norm_h)
    base_u = np.empty((TILE, len(norm_u)), np.float32)
    base_v = np.empty((TILE, len(norm_v)), np.float32)
    base_h = np.empty((TILE, heads), np.float32)
    rating, v_cost = np.empty_like(norm_h), np.empty_like(norm_v)
    u_cost, best = np.empty_like(base_u), np.empty_like(base_v)
    order = np.empty((TILE, heads), np.int64)
    order[:] = np.arange(heads)
    for first in range(0, len(targets), TILE):
        tile = min(TILE, len(targets) - first)
        least = np.full(TILE, np.inf, np.float32)
        for k in range(tile):
            _linear(targets[first + k], sums_u, norm_u, base_u[k])
            _linear(targets[first + k], sums_v, norm_v, base_v[k])
            _linear(targets[first + k], sums_h, norm_h, base_h[k])
            if heads > beam:
                _linear(whitened[first + k], sums_r, norm_r, rating)
                order[k] = np.argsort(rating)
        for turn in range(min(beam, heads)):
            for k in range(tile):
                _add(base_u[k], head_u[order[k, turn]], u_cost[k])
            _least_over_u(u_cost, cross, best)
            for k in range(tile):
                h = order[k, turn]
                _add(base_v[k], head_v[h], v_cost)
                v = _where_least(best[k], v_cost)
                total = base_h[k, h] + best[k, v] + v_cost[v]
                if total < least[k]:
                    least[k] = total
                    u = _where_least(u_cost[k], cross_t[v])
                    out[first + k] = (h << 2 * PART) | (v << PART) | u


def _patterns(bits: int) -> npt.NDArray[np.float64]:
    """Every sign vector, shape ``(2**bits, bits)``: bit j of pattern p is bit j of the number p."""
    return np.asarray(
        ((np.arange(1 << bits)[:, None] >> np.arange(bits)) & 1) * 2.0 - 1.0, np.float64
    )


def encode_groups(
    targets: Floats,
    code: LiftCode,
    taps: npt.NDArray[np.float64] | None = None,
    beam: int = BEAM,
) -> npt.NDArray[np.uint8]:
    """Bits of the nearest codeword of every group (beyond 16 bits: of the best found).

    Args:
        targets: float32 ``(n, r)``, unit variance, the first ``r <= d`` weights of each group; the
            other weights do not count.
        code: a block code without parities.
        taps: real taps ``(d, D)`` to search with instead of the code's.
        beam: heads to search; ``2**(D-16)`` or more makes the search exact.

    Returns:
        uint8 0/1 of shape ``(n, D)``.
    """
    m = code.taps * 2.0**-code.exponent if taps is None else taps
    m = m[: targets.shape[1]]
    lifted = code.lifted
    u_bits = min(PART, lifted)
    v_bits = min(PART, lifted - u_bits)
    edges = np.cumsum([u_bits, v_bits])
    u, v, h = (_patterns(part.shape[1]) @ part.T for part in np.split(m, edges, axis=1))

    def table(a: npt.NDArray[Any]) -> Floats:
        return np.ascontiguousarray(a, np.float32)

    # a head is as good as the other bits can make up for it: its miss, in units of their spread
    spread = m[:, : edges[1]] @ m[:, : edges[1]].T + _RIDGE * np.eye(len(m))
    whiten = np.linalg.inv(np.linalg.cholesky(spread))
    rated = h @ whiten.T
    indices = np.empty(len(targets), np.int64)
    _search(
        np.ascontiguousarray(targets, np.float32), table(targets @ whiten.T),
        table(u.T), table(v.T), table(h.T), table(rated.T),
        table(np.square(u).sum(1)), table(np.square(v).sum(1)),
        table(np.square(h).sum(1)), table(np.square(rated).sum(1)),
        table(2 * u @ v.T), table(2 * v @ u.T), table(2 * h @ u.T), table(2 * h @ v.T),
        beam, indices,
    )  # fmt: skip
    # the parts sit in fixed byte lanes of the index, also when a part has fewer than eight bits
    lanes = np.r_[0:u_bits, PART : PART + v_bits, 2 * PART : 2 * PART + lifted - u_bits - v_bits]
    bits: npt.NDArray[np.uint8] = ((indices[:, None] >> lanes) & 1).astype(np.uint8)
    return bits
