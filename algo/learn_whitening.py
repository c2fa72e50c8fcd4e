"""Learning the transform of an input: input scales and Kronecker factors.

What is minimised is the error that feedback will leave, ``sum_j cost_j v_j`` per unit error of the
code: `cost_j` from the Cholesky factor of the whitened Hessian (`algo.feedback`), `v_j` the mean
square of whitened column j. Both follow from second moments alone, so nothing is quantised on the
way. (LiftQuant, arXiv 2606.04050, section 3.2, learns against a uniform quantiser with a
straight-through estimator; with feedback the error is known in closed form.)
"""

import torch

from algo.whitening import Whitening, skew_entries, turned

_STEPS = 40
_RATE = 0.04


def predicted_error(
    hessian: torch.Tensor, gram: torch.Tensor, left: torch.Tensor, right: torch.Tensor,
    pre: torch.Tensor, damping: float,
) -> torch.Tensor:  # fmt: skip
    """Proxy error with feedback per row and unit error of the code, differentiable.

    Args:
        hessian: ``E[x x^T]``, float64 ``(n, n)``.
        gram: ``W^T W`` over the number of rows, ``(n, n)``.
        left, right: orthogonal factors, ``(a, a)`` and ``(b, b)``.
        pre: input scales, ``(n,)``.
        damping: as in `algo.feedback.damped`.
    """
    a, b = len(left), len(right)

    def both_sides(matrix: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            matrix = (left.T @ matrix.reshape(-1, a, b) @ right).reshape(matrix.shape).T
        return matrix

    n = len(hessian)
    white = both_sides(hessian * pre[:, None] * pre)
    full = white + damping * white.diagonal().mean() * torch.eye(n, dtype=white.dtype)
    factor = torch.linalg.cholesky(full.flip(0, 1))
    costs = factor.diagonal().flip(0).square()
    columns = both_sides(gram / pre[:, None] / pre).diagonal()
    error: torch.Tensor = costs @ columns
    return error


def learn_whitening(
    start: Whitening, hessian: torch.Tensor, weights: torch.Tensor, damping: float,
    steps: int = _STEPS,
) -> Whitening:  # fmt: skip
    """The transform after so many steps of Adam from `start`; `start` if it is no better.

    Args:
        start: rotation and input scales to begin with.
        hessian: ``E[x x^T]``, float64 ``(n, n)``.
        weights: rows of all layers that read the input, ``(rows, n)``.
        damping: as in `algo.feedback.damped`.
        steps: of the optimiser.
    """
    if not bool(hessian.any()):  # an input that is always zero: nothing tells transforms apart
        return start
    gram = weights.double().T @ weights.double() / len(weights)
    pre = torch.ones(start.size) if start.pre is None else start.pre
    logs = pre.double().log().requires_grad_()
    turns = [
        torch.zeros(skew_entries(len(f)), dtype=torch.float64, requires_grad=True)
        for f in (start.left, start.right)
    ]

    def error(whitening: Whitening | None = None) -> torch.Tensor:
        if whitening is not None:
            assert whitening.pre is not None
            return predicted_error(
                hessian, gram, whitening.left.double(), whitening.right.double(),
                whitening.pre.double(), damping,
            )  # fmt: skip
        left, right = turned(start.left, turns[0]), turned(start.right, turns[1])
        return predicted_error(hessian, gram, left, right, logs.exp(), damping)

    adam = torch.optim.Adam([logs, *turns], lr=_RATE)
    for step in range(steps):
        adam.param_groups[0]["lr"] = _RATE * (1 - step / steps)
        adam.zero_grad()
        error().log().backward()  # type: ignore[no-untyped-call]
        adam.step()
    with torch.no_grad():
        scales = logs.exp().to(torch.bfloat16)
        stored = (turns[0].to(torch.bfloat16), turns[1].to(torch.bfloat16))
        learned = start.with_turns(stored, scales)
        return learned if error(learned) < error(start) else start
