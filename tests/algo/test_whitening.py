import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo.errors import LiftError
from algo.whitening import Whitening, factor_sizes, no_whitening, random_whitening


@pytest.mark.parametrize(
    ("n", "sizes"), [(1, (1, 1)), (7, (1, 7)), (48, (6, 8)), (576, (24, 24)), (1536, (32, 48))]
)
def test_factors_are_as_square_as_can_be(n: int, sizes: tuple[int, int]) -> None:
    assert factor_sizes(n) == sizes


@given(n=st.integers(1, 80), seed=st.integers(0, 1000))
def test_transform_is_the_kronecker_product(n: int, seed: int) -> None:
    whitening = random_whitening(n, seed)
    rows = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, n)))
    t = torch.kron(whitening.left.double(), whitening.right.double())
    torch.testing.assert_close(whitening.weights(rows), rows @ t, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(whitening.undo(whitening.weights(rows)), rows, rtol=1e-5, atol=1e-5)


def test_layer_output_is_unchanged_by_whitening() -> None:
    whitening = random_whitening(96, 5)
    rng = np.random.default_rng(1)
    weights, x = torch.tensor(rng.normal(size=(40, 96))), torch.tensor(rng.normal(size=(7, 96)))
    product = whitening.activations(x) @ whitening.weights(weights).T
    torch.testing.assert_close(product, x @ weights.T, rtol=1e-5, atol=1e-5)


def test_whitening_depends_on_seed_and_size_only() -> None:
    assert torch.equal(random_whitening(48, 1).left, random_whitening(48, 1).left)
    assert not torch.equal(random_whitening(48, 1).left, random_whitening(48, 2).left)


def test_spiky_weights_come_out_nearly_gaussian() -> None:
    spiky = torch.zeros(576, 576)
    spiky.fill_diagonal_(1.0)  # kurtosis 576
    white = random_whitening(576, 0).weights(spiky)
    kurtosis = white.pow(4).mean() / white.square().mean().square()
    # a product of two Gaussian entries has kurtosis 9; a row of many weights sums towards 3
    assert 3 < kurtosis < 10


def test_no_whitening_changes_nothing() -> None:
    rows = torch.from_numpy(np.random.default_rng(2).standard_normal((5, 30)).astype(np.float32))
    assert torch.equal(no_whitening(30).weights(rows), rows)


def test_factors_that_are_not_orthogonal_are_refused() -> None:
    eye = torch.eye(4)
    with pytest.raises(LiftError, match="right factor is not orthogonal"):
        Whitening(eye, eye * 1.1)
    with pytest.raises(LiftError, match=r"left factor of shape \(4, 3\): not square"):
        Whitening(eye[:, :3], eye)
    with pytest.raises(LiftError, match="left factor is not orthogonal"):
        Whitening(eye * torch.nan, eye)
