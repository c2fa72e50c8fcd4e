"""Whitening: a basis in which weights look like Gaussian noise and their errors cost little.

``T = diag(s1) (P1 (x) P2)``: orthogonal Kronecker factors that mix the inputs (LiftQuant, arXiv
2606.04050, section 3.2; random orthogonal to begin with), and a scale per input that moves
precision to the inputs that carry most. The layer computes ``W x = (W T^-1)(T x)``; layers that
read the same activations share one T, so that it is applied once for all of them.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from algo.errors import LiftError

_LEAST_SCALE = 1e-6  # of an input; far below any that is chosen
_CHUNK = 1 << 15  # entries of rows that stay in the cache while they are summed


@dataclass(frozen=True, eq=False)
class Whitening:
    """The transform of one input.

    Attributes:
        left, right: orthogonal factors, float32 ``(a, a)`` and ``(b, b)``, n = a*b inputs.
        pre: what activations are multiplied by first, bfloat16 ``(n,)``, all positive; None for 1.
        turns: how the factors were turned from those that all layers share, as `turned` takes it,
            bfloat16 ``(a(a-1)/2,)`` and ``(b(b-1)/2,)``: all that is stored of them. `left` and
            `right` are the factors after it.

    Raises:
        LiftError: a factor is not square or not orthogonal, or `pre` does not fit.
    """

    left: torch.Tensor
    right: torch.Tensor
    pre: torch.Tensor | None = None
    turns: tuple[torch.Tensor, torch.Tensor] | None = None

    def __post_init__(self) -> None:
        for side, factor in (("left", self.left), ("right", self.right)):
            if factor.ndim != 2 or factor.shape[0] != factor.shape[1]:
                raise LiftError(
                    f"whitening: {side} factor of shape {tuple(factor.shape)}: not square"
                )
            drift = (
                (factor.double() @ factor.double().T - torch.eye(len(factor))).abs().max().item()
            )
            if not drift < 1e-4:
                raise LiftError(
                    f"whitening: {side} factor is not orthogonal (off by {drift:.2g}); "
                    "its inverse would not be its transpose"
                )
        if self.pre is None:
            return
        if self.pre.dtype != torch.bfloat16 or self.pre.shape != (self.size,):
            raise LiftError(
                f"whitening: input scales are {self.pre.dtype} of shape {tuple(self.pre.shape)}; "
                f"{self.size} inputs need bfloat16 of shape ({self.size},)"
            )
        if not bool(((self.pre > _LEAST_SCALE) & (self.pre < 1 / _LEAST_SCALE)).all()):
            raise LiftError(
                f"whitening: an input scale is not between {_LEAST_SCALE:g} and "
                f"{1 / _LEAST_SCALE:g}: the scales are corrupt"
            )

    def with_turns(
        self, turns: tuple[torch.Tensor, torch.Tensor], pre: torch.Tensor | None
    ) -> "Whitening":
        """This transform, not turned yet, with its factors turned and other input scales."""
        left, right = turned(self.left, turns[0]), turned(self.right, turns[1])
        return Whitening(left.float(), right.float(), pre, turns)

    @property
    def size(self) -> int:
        """n, the layer's inputs."""
        return len(self.left) * len(self.right)

    def activations(self, rows: torch.Tensor) -> torch.Tensor:
        """``T x`` for activations x as rows of shape ``(..., n)``."""
        return self._rotate(rows if self.pre is None else rows * self.pre.to(rows))

    def ordered(self, rows: torch.Tensor) -> torch.Tensor:
        """``T x`` as `ordered_transform` defines it: the same bits on every machine."""
        return ordered_transform(rows, self.left, self.right, self.pre)

    def weights(self, rows: torch.Tensor) -> torch.Tensor:
        """``W T^-1`` for weights of shape ``(..., n)``."""
        return self._rotate(rows if self.pre is None else rows / self.pre.to(rows))

    def undo(self, rows: torch.Tensor) -> torch.Tensor:
        """``W' T``: decoded weights ``(..., n)`` back in the layer's own basis."""
        left, right = self.left.to(rows), self.right.to(rows)
        square = rows.reshape(*rows.shape[:-1], len(left), len(right))
        plain = (left @ square @ right.T).reshape(rows.shape)
        return plain if self.pre is None else plain * self.pre.to(rows)

    def hessian(self, hessian: torch.Tensor) -> torch.Tensor:
        """``T H T^T``, the ``(n, n)`` second moment of whitened activations."""
        return self.activations(self.activations(hessian).T)

    def _rotate(self, rows: torch.Tensor) -> torch.Tensor:
        left, right = self.left.to(rows), self.right.to(rows)
        square = rows.reshape(*rows.shape[:-1], len(left), len(right))
        return (left.T @ square @ right).reshape(rows.shape)


def ordered_transform(
    rows: torch.Tensor, left: torch.Tensor, right: torch.Tensor, pre: torch.Tensor | None
) -> torch.Tensor:
    """``T x`` in one order of operations: the same bits on every machine and in every batch.

    In float32, every product and every sum rounded by itself (no fused multiply-add), sums begun
    at 0: ``z = x * pre``, ``y[i, j] = sum of z[i, k] * right[k, j] over k = 0, 1, ..``, then
    ``sum of left[k, i] * y[k, j] over k = 0, 1, ..``. A term passes through at most ``m = a + b
    + 1`` roundings, so where nothing underflows the result is within ``m*u / (1 - m*u) *
    sum |t||x|`` of the exact transform t, u = 2**-24 (Higham, Accuracy and Stability of Numerical
    Algorithms, lemma 3.1).

    Args:
        rows: ``(..., a*b)``, floating point; rounded to float32 if wider.
        left, right: float32 ``(a, a)`` and ``(b, b)``.
        pre: ``(a*b,)``, exact in float32, or None for 1.

    Returns:
        float32 ``(..., a*b)``. A row that holds NaN or infinity keeps some of it.
    """
    z = rows.float() if pre is None else rows.float() * pre.to(rows.device).float()
    left, right = left.to(z), right.to(z)
    squares = z.reshape(-1, len(left), len(right))
    out = torch.empty_like(squares)
    step = max(1, _CHUNK // (len(left) * len(right)))
    for first in range(0, len(squares), step):
        square = squares[first : first + step]
        half, whole = torch.zeros_like(square), torch.zeros_like(square)
        for k in range(len(right)):
            half += square[:, :, k : k + 1] * right[k]
        for k in range(len(left)):
            whole += left[k][:, None] * half[:, k : k + 1]
        out[first : first + step] = whole
    return out.reshape(rows.shape)


def skew_entries(size: int) -> int:
    """Free entries of a skew-symmetric matrix."""
    return size * (size - 1) // 2


def turned(factor: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """``factor @ exp(A)``, float64, orthogonal as `factor` is.

    Args:
        factor: ``(k, k)``.
        turn: the ``k(k-1)/2`` entries of the skew-symmetric A above its diagonal, row by row.

    Raises:
        LiftError: `turn` has another number of entries, or one is not finite.
    """
    size = len(factor)
    if turn.shape != (skew_entries(size),) or not bool(torch.isfinite(turn).all()):
        raise LiftError(
            f"whitening: a turn of shape {tuple(turn.shape)} for a factor of {size}: "
            f"{skew_entries(size)} finite entries are needed"
        )
    rows, columns = torch.triu_indices(size, size, 1)
    upper = torch.zeros(size, size, dtype=torch.float64)
    upper = upper.index_put((rows, columns), turn.double())
    result: torch.Tensor = factor.double() @ torch.linalg.matrix_exp(upper - upper.T)
    return result


def factor_sizes(n: int) -> tuple[int, int]:
    """The two factors of `n` nearest to each other, the lesser first: 576 = 24*24, 1536 = 32*48."""
    a = next(a for a in range(math.isqrt(n), 0, -1) if n % a == 0)
    return a, n // a


def random_orthogonal(size: int, rng: np.random.Generator) -> torch.Tensor:
    """float32 orthogonal matrix, uniformly distributed (QR with the signs of R's diagonal)."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return torch.from_numpy((q * np.sign(np.diag(r))).astype(np.float32))


def random_whitening(n: int, seed: int) -> Whitening:
    """Whitening for layers of `n` inputs; depends on `n` and `seed` only."""
    rng = np.random.default_rng([seed, n])
    a, b = factor_sizes(n)
    return Whitening(random_orthogonal(a, rng), random_orthogonal(b, rng))


def no_whitening(n: int) -> Whitening:
    """The identity, for layers to be kept in their own basis."""
    a, b = factor_sizes(n)
    return Whitening(torch.eye(a), torch.eye(b))


def input_scales(
    activations: torch.Tensor, weights: torch.Tensor, power: float = 0.25
) -> torch.Tensor:
    """Scales that share the spread between activations and weights (as AWQ, Lin et al. 2024).

    Args:
        activations: mean square of every input, ``(n,)``.
        weights: mean square of every column of the weights that read it, ``(n,)``.
        power: 0 leaves all to the rotation, 1 makes the activations even.

    Returns:
        bfloat16 ``(n,)`` with geometric mean 1, for `Whitening.pre`.
    """
    floor = 1e-4
    a, w = (x.double() + floor * x.double().mean() + 1e-30 for x in (activations, weights))
    logs = -0.5 * power * torch.log(a / w)
    return (logs - logs.mean()).exp().to(torch.bfloat16)
