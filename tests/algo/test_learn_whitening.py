import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo.errors import LiftError
from algo.feedback import damped, feedback_factors
from algo.learn_whitening import learn_whitening, predicted_error
from algo.whitening import Whitening, no_whitening, random_whitening, skew_entries, turned


def moments(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A correlated Hessian with uneven inputs, and weights with uneven columns."""
    rng = np.random.default_rng([seed, n])
    mixing = rng.standard_normal((n, n)) * np.exp(rng.normal(size=n))[:, None]
    weights = rng.standard_normal((3 * n, n)) * np.exp(rng.normal(size=n))
    return torch.from_numpy(mixing @ mixing.T), torch.from_numpy(weights)


def scaled(n: int, seed: int = 0) -> Whitening:
    plain, rng = random_whitening(n, seed), np.random.default_rng(seed)
    scales = torch.from_numpy(np.exp(rng.normal(size=n))).to(torch.bfloat16)
    return Whitening(plain.left, plain.right, scales)


def error_of(whitening: Whitening, hessian: torch.Tensor, weights: torch.Tensor) -> float:
    """By the factors that feedback itself uses."""
    costs, _ = feedback_factors(damped(whitening.hessian(hessian).numpy(), 0.01))
    return float(whitening.weights(weights).square().mean(0).numpy() @ costs)


@given(n=st.integers(1, 30), seed=st.integers(0, 1000))
def test_prediction_is_that_of_feedback(n: int, seed: int) -> None:
    (hessian, weights), whitening = moments(n, seed), scaled(n, seed)
    assert whitening.pre is not None
    predicted = predicted_error(
        hessian, weights.T @ weights / len(weights), whitening.left.double(),
        whitening.right.double(), whitening.pre.double(), 0.01,
    )  # fmt: skip
    assert float(predicted) == pytest.approx(error_of(whitening, hessian, weights), rel=1e-4)


@pytest.mark.parametrize("n", [12, 30])
def test_learning_lowers_the_error_that_feedback_leaves(n: int) -> None:
    (hessian, weights), start = moments(n), scaled(n)
    learned = learn_whitening(start, hessian, weights, 0.01)
    assert error_of(learned, hessian, weights) < 0.9 * error_of(start, hessian, weights)
    assert learned.turns is not None
    assert [len(t) for t in learned.turns] == [skew_entries(len(learned.left)),
                                               skew_entries(len(learned.right))]  # fmt: skip


def test_what_is_stored_is_the_transform() -> None:
    (hessian, weights), start = moments(20), scaled(20)
    learned = learn_whitening(start, hessian, weights, 0.01, steps=5)
    assert learned.turns is not None
    again = Whitening(start.left, start.right).with_turns(learned.turns, learned.pre)
    assert torch.equal(again.left, learned.left)
    assert torch.equal(again.right, learned.right)
    rows = torch.from_numpy(np.random.default_rng(1).standard_normal((4, 20)))
    torch.testing.assert_close(again.undo(again.weights(rows)), rows, rtol=1e-4, atol=1e-4)


def test_start_is_kept_where_nothing_is_learned() -> None:
    (hessian, weights), start = moments(12), scaled(12)
    assert learn_whitening(start, hessian, weights, 0.01, steps=0) is start


def test_inputs_that_are_always_zero_keep_the_start() -> None:
    start, weights = scaled(12), moments(12)[1]
    zero = torch.zeros(12, 12, dtype=torch.float64)
    assert learn_whitening(start, zero, weights, 0.01) is start


@given(size=st.integers(1, 9), seed=st.integers(0, 1000))
def test_turned_factors_stay_orthogonal(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn = torch.from_numpy(rng.standard_normal(skew_entries(size)))
    factor = no_whitening(size * size).left
    made = turned(factor, turn)
    torch.testing.assert_close(made @ made.T, torch.eye(size, dtype=torch.float64))
    torch.testing.assert_close(turned(factor, turn * 0), factor.double())


def test_turns_by_a_right_angle() -> None:
    made = turned(torch.eye(2), torch.tensor([torch.pi / 2]))
    torch.testing.assert_close(made.float(), torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))


@pytest.mark.parametrize("turn", [torch.zeros(2), torch.zeros(4), torch.full((3,), torch.nan)])
def test_turns_that_do_not_fit_are_refused(turn: torch.Tensor) -> None:
    with pytest.raises(LiftError, match="for a factor of 3: 3 finite entries are needed"):
        turned(torch.eye(3), turn)
