"""Whitening: a random orthogonal basis in which weights look like Gaussian noise.

``T = P1 (x) P2`` with small orthogonal factors (LiftQuant section 3.2; random orthogonal factors
to begin with). The layer computes ``W x = (W T)(T^-1 x)``, and T being orthogonal, ``T^-1 x`` for a
vector x is the row vector ``x^T T``: weights and activations go through the same function.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from algo.errors import LiftError


@dataclass(frozen=True, eq=False)
class Whitening:
    """Orthogonal Kronecker factors, float32: `left` is ``(a, a)``, `right` ``(b, b)``, n = a*b."""

    left: torch.Tensor
    right: torch.Tensor

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

    @property
    def size(self) -> int:
        """n, the layer's inputs."""
        return len(self.left) * len(self.right)

    def apply(self, rows: torch.Tensor) -> torch.Tensor:
        """``rows @ T`` for rows of shape ``(..., n)``: weights, or activations as row vectors."""
        left, right = self.left.to(rows), self.right.to(rows)
        square = rows.reshape(*rows.shape[:-1], len(left), len(right))
        return (left.T @ square @ right).reshape(rows.shape)

    def undo(self, rows: torch.Tensor) -> torch.Tensor:
        """``rows @ T^-1``: decoded weights back in the layer's own basis."""
        left, right = self.left.to(rows), self.right.to(rows)
        square = rows.reshape(*rows.shape[:-1], len(left), len(right))
        return (left @ square @ right.T).reshape(rows.shape)


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
