"""Rounding with error feedback: every column makes good for the errors of those before it.

For a layer with inputs x the harm of an error D in its weights is ``tr(D H D^T)``, H = E[x x^T].
Columns are quantised in order; the error of column j is spread over the columns still to come as
H prescribes (GPTQ, Frantar et al. 2023; the same as LDLQ, Chee et al. 2023). On axis ``out`` a
column is one stream, so the search inside is that of the whole stream: exact, as without feedback.
"""

import numpy as np
import numpy.typing as npt
import torch

from algo.code import LiftCode
from algo.decode import decode_bits
from algo.errors import LiftError
from algo.matrix import PackedMatrix
from algo.packing import pack_bits, stream_groups
from algo.search import encode_one

Floats = npt.NDArray[np.float32]
Floats64 = npt.NDArray[np.float64]

DAMPING = 0.01  # added to H's diagonal, relative to its mean: directions never seen cost a little
_LAZY = 64  # columns after which the far ones are corrected, in one product


def damped(hessian: Floats64, damping: float = DAMPING) -> Floats64:
    """H with `damping` times its mean diagonal added to the diagonal; the identity for no input.

    Raises:
        LiftError: H is not square, not finite, or has a negative diagonal.
    """
    if hessian.ndim != 2 or hessian.shape[0] != hessian.shape[1]:
        raise LiftError(f"a Hessian of shape {hessian.shape} is not square")
    if not np.isfinite(hessian).all() or hessian.diagonal().min() < 0:
        raise LiftError("the Hessian holds NaN, infinity or a negative diagonal: bad activations")
    mean = float(hessian.diagonal().mean())
    if mean == 0:
        return np.eye(len(hessian))
    out: Floats64 = hessian + damping * mean * np.eye(len(hessian))
    return out


def feedback_factors(hessian: Floats64) -> tuple[Floats64, Floats64]:
    """What each column's error costs, and how it is spread.

    Returns:
        ``(costs, spread)``: `costs` ``(n,)`` is the harm of a unit squared error in column j once
        the later columns have made good for it; row j of the upper triangular `spread` ``(n, n)``
        is what an error in column j asks of the others, with 1 on the diagonal.
    """
    inverse = np.linalg.inv(hessian)
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T  # H^-1 = U^T U
    diagonal = upper.diagonal()
    return 1 / np.square(diagonal), upper / diagonal[:, None]


def proxy_error(error: Floats, hessian: Floats64) -> float:
    """``tr(D H D^T)``: the mean squared error of all outputs together, per token."""
    wide = error.astype(np.float64)
    return float(np.einsum("ij,ij->", wide @ hessian, wide))


def quantise_with_feedback(
    weights: torch.Tensor,
    hessian: Floats64,
    code: LiftCode,
    damping: float = DAMPING,
) -> PackedMatrix:
    """Codewords for a whitened matrix on axis ``out``, and the least-squares scales under H.

    Args:
        weights: float ``(rows, n)``.
        hessian: ``(n, n)``, in the same basis, undamped.
        code: any code.
        damping: see `damped`.

    Raises:
        LiftError: as `damped`; a weight is not finite; the streams are too short for the code.
    """
    real = weights.detach().double().numpy()
    rows, n = real.shape
    if hessian.shape != (n, n):
        raise LiftError(f"a Hessian of shape {hessian.shape} does not fit {n} inputs")
    full = damped(hessian, damping)
    _, spread64 = feedback_factors(full)
    spread = spread64.astype(np.float32)
    scales = np.sqrt(np.square(real).mean(axis=1))
    scales[scales == 0] = 1
    left = np.asfortranarray((real / scales[:, None]).astype(np.float32))
    bits = np.empty((n, stream_groups(rows, code) * code.lifted), np.uint8)
    chosen = np.empty((rows, n), np.float32, order="F")
    unit = np.float32(2.0**-code.exponent)
    for first in range(0, n, _LAZY):
        last = min(n, first + _LAZY)
        errors = np.empty((rows, last - first), np.float32, order="F")
        for j in range(first, last):
            bits[j] = encode_one(left[:, j], code)
            chosen[:, j] = decode_bits(bits[j : j + 1], code)[0, :rows] * unit
            errors[:, j - first] = left[:, j] - chosen[:, j]
            left[:, j + 1 : last] -= np.outer(errors[:, j - first], spread[j, j + 1 : last])
        left[:, last:] -= errors @ spread[first:last, last:]
    words = pack_bits(bits)
    wide = chosen.astype(np.float64)
    lifted = wide @ full
    energy = np.einsum("ij,ij->i", lifted, wide)
    fitted = np.einsum("ij,ij->i", lifted, real) / np.where(energy > 0, energy, 1)
    return PackedMatrix(code, "out", (rows, n), words, torch.from_numpy(fitted).to(torch.bfloat16))
