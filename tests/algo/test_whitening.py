import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo.errors import LiftError
from algo.whitening import (
    Whitening,
    factor_sizes,
    input_scales,
    no_whitening,
    random_whitening,
)


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


def with_scales(n: int, seed: int) -> tuple[Whitening, torch.Tensor]:
    """A transform with input scales, and its matrix T."""
    plain, rng = random_whitening(n, seed), np.random.default_rng(seed)
    scales = torch.from_numpy(np.exp(rng.normal(size=n))).to(torch.bfloat16)
    rotation = torch.kron(plain.left.double(), plain.right.double())
    return Whitening(plain.left, plain.right, scales), rotation.T * scales.double()


@given(n=st.integers(1, 60), seed=st.integers(0, 1000))
def test_transform_with_input_scales_is_its_matrix(n: int, seed: int) -> None:
    whitening, t = with_scales(n, seed)
    rng = np.random.default_rng(seed)
    rows, x = torch.from_numpy(rng.standard_normal((2, 3, n)))
    close = {"rtol": 1e-6, "atol": 1e-5}
    torch.testing.assert_close(whitening.activations(x), x @ t.T, **close)
    torch.testing.assert_close(whitening.undo(rows), rows @ t, **close)
    # undoing is exact but for what rounding to float32 took from the factors' orthogonality
    rotation = torch.kron(whitening.left.double(), whitening.right.double())
    drift = torch.linalg.matrix_norm(rotation @ rotation.T - torch.eye(n), 2) + 1e-13
    assert whitening.pre is not None
    pre = whitening.pre.double()
    reach = (rows / pre).norm(dim=1)
    lost = (whitening.undo(whitening.weights(rows)) - rows).abs()
    assert (lost <= drift * reach[:, None] * pre).all()
    product = whitening.activations(x) @ whitening.weights(rows).T
    lost = (product - x @ rows.T).abs()
    assert (lost <= drift * (x * pre).norm(dim=1)[:, None] * reach).all()
    moments = x.T @ x
    torch.testing.assert_close(whitening.hessian(moments), t @ moments @ t.T, rtol=1e-5, atol=1e-4)


@given(n=st.integers(1, 40), power=st.floats(0, 1), seed=st.integers(0, 1000))
def test_input_scales_share_the_spread(n: int, power: float, seed: int) -> None:
    a, w = torch.from_numpy(np.exp(np.random.default_rng(seed).normal(size=(2, n))))
    scales = input_scales(a, w, power)
    assert scales.dtype == torch.bfloat16
    assert scales.double().log().mean().abs() < 0.01  # geometric mean 1, but for rounding
    made = (scales.double().log() * -2).sub(power * (a / w).log())
    assert made.std(unbiased=False) < 0.02  # as (a/w)^(-power/2); floor and rounding aside


def test_input_scales_follow_no_unit() -> None:
    a, w = torch.rand(2, 50, generator=torch.Generator().manual_seed(1)) + 0.1
    assert torch.equal(input_scales(a * 2.0**40, w), input_scales(a, w * 2.0**-40))


def test_inputs_never_seen_get_scales_that_are_valid() -> None:
    a, w = torch.rand(20), torch.rand(20)
    a[3], w[5] = 0, 0
    for activations, weights in ((a, w), (torch.zeros(20), w), (a, torch.zeros(20))):
        plain = random_whitening(20, 0)
        Whitening(plain.left, plain.right, input_scales(activations, weights, 1.0))
    assert torch.equal(input_scales(a, w, 0.0), torch.ones(20, dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("pre", "message"),
    [
        (torch.ones(12), r"are torch.float32 of shape \(12,\); 12 inputs need bfloat16"),
        (torch.ones(11, dtype=torch.bfloat16), r"of shape \(11,\); 12 inputs need bfloat16"),
        (torch.zeros(12, dtype=torch.bfloat16), "is not between 1e-06 and 1e.06"),
        (-torch.ones(12, dtype=torch.bfloat16), "is not between"),
        (torch.full((12,), torch.nan, dtype=torch.bfloat16), "the scales are corrupt"),
        (torch.full((12,), 1e7, dtype=torch.bfloat16), "the scales are corrupt"),
    ],
)  # fmt: skip
def test_input_scales_that_do_not_fit_are_refused(pre: torch.Tensor, message: str) -> None:
    plain = no_whitening(12)
    with pytest.raises(LiftError, match=message):
        Whitening(plain.left, plain.right, pre)


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


def rounded_one_by_one(x: np.ndarray, whitening: Whitening) -> np.ndarray:
    """The ordered transform of one row, one float32 operation after the other."""
    left, right = whitening.left.numpy(), whitening.right.numpy()
    pre = np.ones(len(x), np.float32) if whitening.pre is None else whitening.pre.float().numpy()
    z = [np.float32(a) * np.float32(b) for a, b in zip(x, pre, strict=True)]
    a, b = len(left), len(right)
    half = [[np.float32(0)] * b for _ in range(a)]
    out = [[np.float32(0)] * b for _ in range(a)]
    for i in range(a):
        for j in range(b):
            for k in range(b):
                half[i][j] = np.float32(half[i][j] + np.float32(z[i * b + k] * right[k, j]))
    for i in range(a):
        for j in range(b):
            for k in range(a):
                out[i][j] = np.float32(out[i][j] + np.float32(left[k, i] * half[k][j]))
    return np.array(out, np.float32).ravel()


@pytest.mark.parametrize("n", [1, 7, 12, 24])
def test_ordered_transform_is_rounded_one_by_one(n: int) -> None:
    whitening, _ = with_scales(n, 3)
    rows = torch.from_numpy(np.random.default_rng(n).standard_normal((3, n)).astype("f"))
    rows[1] *= 2.0**-130  # down to where floats are subnormal
    want = np.stack([rounded_one_by_one(row, whitening) for row in rows.numpy()])
    assert np.array_equal(whitening.ordered(rows).numpy().view(np.int32), want.view(np.int32))


@given(n=st.integers(1, 300), seed=st.integers(0, 1000))
def test_ordered_transform_is_within_its_bound(n: int, seed: int) -> None:
    whitening, t = with_scales(n, seed)
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, n)).astype("f"))
    roundings = (len(whitening.left) + len(whitening.right) + 1) * 2.0**-24
    bound = roundings / (1 - roundings) * (x.double().abs() @ t.abs().T)
    exact = x.double() @ t.T
    off = (whitening.ordered(x).double() - exact).abs()
    assert (off <= bound + exact.abs() * 2.0**-50).all()  # the oracle itself rounds


def test_ordered_transform_does_not_depend_on_the_batch_or_the_type() -> None:
    whitening, _ = with_scales(576, 1)
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((200, 576)).astype("f"))
    together = whitening.ordered(x)
    assert torch.equal(whitening.ordered(x[77]), together[77])
    assert torch.equal(whitening.ordered(x.T.contiguous().T), together)
    short = x.to(torch.bfloat16)
    assert torch.equal(whitening.ordered(short), whitening.ordered(short.double()))
    assert whitening.ordered(short).dtype == torch.float32
    assert whitening.ordered(x[:0]).shape == (0, 576)
