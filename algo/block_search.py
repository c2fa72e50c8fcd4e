"""Nearest codeword for block codes: exhaustive over sixteen bits, a beam over the rest.

Split the bits of a group into two parts of at most eight, ``u`` and ``v``, and a head of the
remaining ones. With partial sums ``U[u]``, ``V[v]`` the distance to a target ``z`` is

    |z - U[u] - V[v]|**2 = const + (|U[u]|**2 - 2 z.U[u]) + (|V[v]|**2 - 2 z.V[v]) + 2 U[u].V[v]

whose last term does not depend on ``z``: a table, made once per code. Trying all ``2**16`` pairs
then costs one addition and one minimum each, whatever d is; they are done in int16, and what is as
near as its rounding can tell is compared again in float32. Codes of up to 16 bits are searched
exactly. In longer ones every head pattern is rated by what it leaves to the other bits, measured in
units of their spread, and the best `BEAM` heads are searched exhaustively.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from algo.code import LiftCode
from algo.viterbi import Floats

PART = 8  # bits in each exhaustively searched part
BEAM = 64  # heads that are searched exhaustively
TILE = 4  # groups searched side by side, so that each load of the pair table serves them all
_CLIP = 16383  # integer costs at most; the pair table takes up half as much on either side
_RIDGE = 0.02  # keeps the spread invertible when few bits are left


@numba.njit(nogil=True, fastmath=True, cache=True)
def _linear(target, sums, norms, out):  # type: ignore[no-untyped-def]
    """``|S|**2 - 2 z.S`` for every pattern's partial sum ``S``; `sums` is ``(d, patterns)``."""
    for p in range(len(out)):
        out[p] = norms[p]
    whole = len(target) // 4 * 4
    for i in range(0, whole, 4):  # four at a time, to spare loads and stores
        one, two = np.float32(-2.0) * target[i], np.float32(-2.0) * target[i + 1]
        three, four = np.float32(-2.0) * target[i + 2], np.float32(-2.0) * target[i + 3]
        for p in range(len(out)):
            first = one * sums[i, p] + two * sums[i + 1, p]
            out[p] += first + three * sums[i + 2, p] + four * sums[i + 3, p]
    for i in range(whole, len(target)):
        last = np.float32(-2.0) * target[i]
        for p in range(len(out)):
            out[p] += last * sums[i, p]


@numba.njit(nogil=True, fastmath=True, cache=True)
def _add(a, b, out):  # type: ignore[no-untyped-def]
    for p in range(len(out)):
        out[p] = a[p] + b[p]


@numba.njit(nogil=True, fastmath=True, cache=True)
def _least(x):  # type: ignore[no-untyped-def]
    """Least entry; eight chains of comparisons, to hide their latency."""
    a = b = c = d = e = f = g = h = np.float32(np.inf)
    whole = len(x) // 8 * 8
    for p in range(0, whole, 8):
        a, b, c, d = min(a, x[p]), min(b, x[p + 1]), min(c, x[p + 2]), min(d, x[p + 3])
        e, f, g, h = min(e, x[p + 4]), min(f, x[p + 5]), min(g, x[p + 6]), min(h, x[p + 7])
    for p in range(whole, len(x)):
        a = min(a, x[p])
    return min(min(min(a, b), min(c, d)), min(min(e, f), min(g, h)))


@numba.njit(nogil=True, cache=True)
def _where_least(a, b, total):  # type: ignore[no-untyped-def]
    """Index of the least sum of two rows; `total` is scratch of their length."""
    _add(a, b, total)
    least = _least(total)
    for p in range(len(total)):
        if total[p] == least:
            return p
    return 0


@numba.njit(nogil=True, fastmath=True, cache=True)
def _to_integers(cost, scale, out):  # type: ignore[no-untyped-def]
    """Costs above the least one as int16, clipped where they cannot win any more."""
    least = _least(cost)
    for u in range(len(cost)):
        out[u] = np.int16(min((cost[u] - least) * scale, np.float32(_CLIP)) + np.float32(0.5))
    return least


@numba.njit(nogil=True, cache=True)
def _least_of_five(least, a, b, c, d):  # type: ignore[no-untyped-def]
    a = a if a < b else b
    c = c if c < d else d
    a = a if a < c else c
    return a if a < least else least


@numba.njit(nogil=True, cache=True)
def _least_over_u(cost, cross, best):  # type: ignore[no-untyped-def]
    """``best[k, v] = min_u cost[k, u] + cross[u, v]`` in int16, for `TILE` = 4 problems.

    The problems share each load of `cross`; the costs of four rows stay in registers. This is where
    the time goes: the casts and the names for every scalar are what lets it compile to SIMD.
    """
    narrow = np.int16
    best[:] = narrow(32767)
    whole = len(cross) // 4 * 4
    for u in range(0, whole, 4):
        a0, a1, a2, a3 = cost[0, u], cost[0, u + 1], cost[0, u + 2], cost[0, u + 3]
        b0, b1, b2, b3 = cost[1, u], cost[1, u + 1], cost[1, u + 2], cost[1, u + 3]
        c0, c1, c2, c3 = cost[2, u], cost[2, u + 1], cost[2, u + 2], cost[2, u + 3]
        d0, d1, d2, d3 = cost[3, u], cost[3, u + 1], cost[3, u + 2], cost[3, u + 3]
        for v in range(cross.shape[1]):
            w, x, y, z = cross[u, v], cross[u + 1, v], cross[u + 2, v], cross[u + 3, v]
            best[0, v] = _least_of_five(
                best[0, v], narrow(a0 + w), narrow(a1 + x), narrow(a2 + y), narrow(a3 + z)
            )
            best[1, v] = _least_of_five(
                best[1, v], narrow(b0 + w), narrow(b1 + x), narrow(b2 + y), narrow(b3 + z)
            )
            best[2, v] = _least_of_five(
                best[2, v], narrow(c0 + w), narrow(c1 + x), narrow(c2 + y), narrow(c3 + z)
            )
            best[3, v] = _least_of_five(
                best[3, v], narrow(d0 + w), narrow(d1 + x), narrow(d2 + y), narrow(d3 + z)
            )
    for u in range(whole, len(cross)):
        for v in range(cross.shape[1]):
            for k in range(TILE):
                total = narrow(cost[k, u] + cross[u, v])
                best[k, v] = total if total < best[k, v] else best[k, v]


@numba.njit(nogil=True, fastmath=True, cache=True)
def _totals(best, offset, step, v_cost, out):  # type: ignore[no-untyped-def]
    """Real costs by ``v`` from integer ones; returns the least."""
    for v in range(len(out)):
        out[v] = offset + step * best[v] + v_cost[v]
    return _least(out)


@numba.njit(nogil=True, cache=True)
def _search(  # type: ignore[no-untyped-def]
    targets, whitened, sums_u, sums_v, sums_h, sums_r, norm_u, norm_v, norm_h, norm_r,
    cross_integer, scale, cross_t, head_u, head_v, beam, out,
):  # fmt: skip
    heads = len(norm_h)
    base_u = np.empty((TILE, len(norm_u)), np.float32)
    base_v = np.empty((TILE, len(norm_v)), np.float32)
    base_h = np.empty((TILE, heads), np.float32)
    rating, v_cost = np.empty_like(norm_h), np.empty_like(norm_v)
    u_cost, u_integer = np.empty_like(base_u), np.zeros(base_u.shape, np.int16)
    best, total = np.empty(base_v.shape, np.int16), np.empty_like(norm_v)
    scratch = np.empty_like(norm_u)
    offset, least = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    order = np.empty((TILE, heads), np.int64)
    order[:] = np.arange(heads)
    for first in range(0, len(targets), TILE):
        tile = min(TILE, len(targets) - first)
        least[:] = np.float32(np.inf)
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
                offset[k] = _to_integers(u_cost[k], scale, u_integer[k])
            _least_over_u(u_integer, cross_integer, best)
            for k in range(tile):
                h = order[k, turn]
                _add(base_v[k], head_v[h], v_cost)
                near = _totals(best[k], offset[k], 1 / scale, v_cost, total)
                if near + base_h[k, h] > least[k] + 2 / scale:
                    continue
                for v in range(len(total)):
                    if total[v] <= near + 2 / scale:  # as near as rounding to integers can tell
                        u = _where_least(u_cost[k], cross_t[v], scratch)
                        exact = base_h[k, h] + u_cost[k, u] + cross_t[v, u] + v_cost[v]
                        if exact < least[k]:
                            least[k] = exact
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
    m = np.ascontiguousarray(m[: targets.shape[1]], np.float64)
    tables = _tables(m.tobytes(), code.lifted)
    whitened = targets @ tables.whiten.T if tables.bits[2] else targets  # only heads are rated
    indices = np.empty(len(targets), np.int64)
    _search(  # type: ignore[call-arg]
        np.ascontiguousarray(targets, np.float32), _contiguous(whitened),
        *tables.sums, *tables.norms, tables.cross_integer, tables.scale, tables.cross_t,
        *tables.heads, beam, indices,
    )  # fmt: skip
    # the parts sit in fixed byte lanes of the index, also when a part has fewer than eight bits
    lanes = [lane for i, n in enumerate(tables.bits) for lane in range(i * PART, i * PART + n)]
    octets = indices.astype("<u4").view(np.uint8).reshape(-1, 4)
    return np.unpackbits(octets, axis=1, bitorder="little")[:, lanes]


class _Tables(NamedTuple):
    """What the search looks up; depends on the taps only."""

    bits: tuple[int, int, int]  # of u, v and the head
    whiten: npt.NDArray[np.float64]
    sums: tuple[Floats, ...]  # partial sums (d, patterns) of u, v, the head, the whitened head
    norms: tuple[Floats, ...]  # their squared lengths
    cross_integer: npt.NDArray[np.int16]
    scale: np.float32
    cross_t: Floats
    heads: tuple[Floats, Floats]  # pair tables of the head with u and with v


def _contiguous(a: npt.NDArray[Any]) -> Floats:
    return np.ascontiguousarray(a, np.float32)


@lru_cache(maxsize=8)
def _tables(taps: bytes, lifted: int) -> _Tables:
    m = np.frombuffer(taps).reshape(-1, lifted)
    u_bits = min(PART, lifted)
    v_bits = min(PART, lifted - u_bits)
    tail = u_bits + v_bits
    parts = (m[:, :u_bits], m[:, u_bits:tail], m[:, tail:])
    u, v, h = (_patterns(part.shape[1]) @ part.T for part in parts)
    # a head is as good as the other bits can make up for it: its miss, in units of their spread
    spread = m[:, :tail] @ m[:, :tail].T + _RIDGE * np.eye(len(m))
    whiten = np.linalg.inv(np.linalg.cholesky(spread))
    cross = 2 * u @ v.T
    # a cost clipped at _CLIP is so far above the least that no pair can make up for it
    scale = _CLIP / max(2 * np.abs(cross).max() + 1e-3, 1.0)
    sums = (u, v, h, h @ whiten.T)
    return _Tables(
        bits=(u_bits, v_bits, lifted - tail),
        whiten=whiten,
        sums=tuple(_contiguous(part.T) for part in sums),
        norms=tuple(_contiguous(np.square(part).sum(1)) for part in sums),
        cross_integer=np.rint(cross * scale).astype(np.int16),
        scale=np.float32(scale),
        cross_t=_contiguous(cross.T),
        heads=(_contiguous(2 * h @ u.T), _contiguous(2 * h @ v.T)),
    )
