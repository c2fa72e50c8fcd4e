"""Rounding with error feedback: every column makes good for the errors of those before it.

For a layer with inputs x the harm of an error D in its weights is ``tr(D H D^T)``, H = E[x x^T].
Columns are quantised in order; the error of column j is spread over the columns still to come as
H prescribes (GPTQ, Frantar et al. 2023; the same as LDLQ, Chee et al. 2023). On axis ``out`` a
column is one stream, so the search inside is that of the whole stream: exact, as without feedback.
On axis ``in`` a row is one stream, chosen a stretch at a time.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from algo.code import LiftCode
from algo.decode import decode_bits
from algo.errors import LiftError
from algo.matrix import Axis, PackedMatrix
from algo.packing import Bits, pack_bits, stream_groups
from algo.search import encode, encode_one
from algo.stretch import closing_states, path_bits, search_stretch
from algo.viterbi import make_trellis

Floats = npt.NDArray[np.float32]
Floats64 = npt.NDArray[np.float64]

DAMPING = 0.01  # added to H's diagonal, relative to its mean: directions never seen cost a little
_LAZY = 64  # columns after which the far ones are corrected, in one product
_STRETCH = 16  # weights of a row that are chosen together on axis ``in``

Report = Callable[[int], None]


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


def _inverse_factor(hessian: Floats64) -> Floats64:
    """Upper triangular U with ``H^-1 = U^T U``, from the Cholesky factor of H read backwards."""
    try:
        backwards = np.linalg.cholesky(hessian[::-1, ::-1])
    except np.linalg.LinAlgError:
        raise LiftError(
            "the Hessian is not positive definite: give more calibration text, or more damping"
        ) from None
    inverse: Floats64 = np.linalg.inv(backwards[::-1, ::-1])  # H = R R^T, R upper triangular
    return inverse


def feedback_factors(hessian: Floats64) -> tuple[Floats64, Floats64]:
    """What each column's error costs, and how it is spread.

    Returns:
        ``(costs, spread)``: `costs` ``(n,)`` is the harm of a unit squared error in column j once
        the later columns have made good for it; row j of the upper triangular `spread` ``(n, n)``
        is what an error in column j asks of the others, with 1 on the diagonal.
    """
    upper = _inverse_factor(hessian)
    diagonal = upper.diagonal()
    return 1 / np.square(diagonal), upper / diagonal[:, None]


def proxy_error(error: npt.NDArray[Any], hessian: Floats64) -> float:
    """``tr(D H D^T)``: the mean squared error of all outputs together, per token."""
    wide = error.astype(np.float64)
    return float(np.einsum("ij,ij->", wide @ hessian, wide))


def quantise_with_feedback(
    weights: torch.Tensor,
    hessian: Floats64,
    code: LiftCode,
    axis: Axis = "out",
    damping: float = DAMPING,
    on_progress: Callable[[int], None] | None = None,
) -> PackedMatrix:
    """Codewords for a whitened matrix, and the least-squares row scales under H.

    Args:
        weights: float ``(rows, n)``.
        hessian: ``(n, n)``, in the same basis, undamped.
        code: any code.
        axis: direction of the streams.
        damping: see `damped`.
        on_progress: called with the number of weights finished since the last call.

    Raises:
        LiftError: as `damped`; a weight is not finite; the streams are too short for the code.
    """
    real = weights.detach().double().numpy()
    rows, n = real.shape
    if hessian.shape != (n, n):
        raise LiftError(f"a Hessian of shape {hessian.shape} does not fit {n} inputs")
    if not np.isfinite(real).all():
        raise LiftError("a weight is NaN or infinite: repair the model")
    full = damped(hessian, damping)
    scales = np.sqrt(np.square(real).mean(axis=1))
    scales[scales == 0] = 1
    unit = (real / scales[:, None]).astype(np.float32)
    run = {"out": _columns, "in": _stretches}[axis]
    bits = run(unit, full, code, on_progress or (lambda _: None))
    trial = PackedMatrix(
        code, axis, (rows, n), pack_bits(bits), torch.ones(rows, dtype=torch.bfloat16)
    )
    decoded = trial.dequantise().double().numpy()
    weighted = decoded @ full
    energy = np.einsum("ij,ij->i", weighted, decoded)
    fitted = np.einsum("ij,ij->i", weighted, real) / np.where(energy > 0, energy, 1)
    return replace(trial, scales=torch.from_numpy(fitted).to(torch.bfloat16))


def _columns(unit: Floats, hessian: Floats64, code: LiftCode, report: Report) -> Bits:
    """Axis ``out``: a column is a stream, chosen whole before the next one."""
    rows, n = unit.shape
    spread = feedback_factors(hessian)[1].astype(np.float32)
    left = np.asfortranarray(unit)
    bits = np.empty((n, stream_groups(rows, code) * code.lifted), np.uint8)
    step = np.float32(2.0**-code.exponent)
    for first in range(0, n, _LAZY):
        last = min(n, first + _LAZY)
        errors = np.empty((rows, last - first), np.float32, order="F")
        for j in range(first, last):
            bits[j] = encode_one(left[:, j], code)
            chosen = decode_bits(bits[j : j + 1], code)[0, :rows] * step
            errors[:, j - first] = left[:, j] - chosen
            left[:, j + 1 : last] -= np.outer(errors[:, j - first], spread[j, j + 1 : last])
        left[:, last:] -= errors @ spread[first:last, last:]
        report(rows * (last - first))
    return bits


def _stretches(unit: Floats, hessian: Floats64, code: LiftCode, report: Report) -> Bits:
    """Axis ``in``: a stream is a row; some groups of all rows are chosen, then their errors spread.

    Within a stretch there is no feedback. Windows that reach past it are searched with what the
    next stretch is expected to be.
    """
    rows, n = unit.shape
    groups = stream_groups(n, code)
    length = groups * code.group
    upper = _inverse_factor(hessian)
    left = np.zeros((rows, length), np.float32)
    left[:, :n] = unit
    search = _RowSearch(left, n, code)
    size = max(1, _STRETCH // code.group) * code.group
    step = np.float32(2.0**-code.exponent)
    for first in range(0, length, size):
        last, end = min(first + size, length), min(first + size, n)
        chosen = search.advance(left, first, last) * step
        if end > first:
            errors = left[:, first:end] - chosen[:, : end - first]
            inner, outer = upper[first:end, first:end], upper[first:end, end:]
            left[:, end:n] -= errors @ np.linalg.solve(inner, outer).astype(np.float32)
            report(rows * (end - first))
    return search.bits()


class _RowSearch:
    """The nearest windows of a stretch after the other, for the rows of a matrix."""

    def __init__(self, targets: Floats, weights: int, code: LiftCode) -> None:
        self._code = code
        self._weights = weights
        self._bits = np.zeros(
            (len(targets), targets.shape[1] // code.group * code.lifted), np.uint8
        )
        if code.overlap:
            self._paths = np.zeros(targets.shape, np.int64)
            self._closing = closing_states(targets, weights, code)
            self._entry = self._closing.copy()
            self._values = make_trellis(code).plain * 2.0**code.exponent  # integers again

    def advance(self, targets: Floats, first: int, last: int) -> Floats:
        """Choose weights ``first .. last`` (multiples of d); their integers, ``(rows, count)``."""
        code = self._code
        if not code.overlap:
            bits = encode(targets[:, first : min(last, self._weights)], code, workers=1)
            place = first // code.group * code.lifted
            self._bits[:, place : place + bits.shape[1]] = bits
            return decode_bits(bits, code).astype(np.float32)
        search_stretch(
            targets, self._weights, code, first, last - first, self._entry, self._closing,
            self._paths,
        )  # fmt: skip
        chosen = [self._values[i % code.group][self._paths[:, i]] for i in range(first, last)]
        return np.stack(chosen, axis=1).astype(np.float32)

    def bits(self) -> Bits:
        return path_bits(self._paths, self._code) if self._code.overlap else self._bits
