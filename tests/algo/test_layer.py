import numpy as np
import pytest
import torch

from algo.layer import ReferenceLinear
from algo.matrix import AXES, Axis, quantise_matrix
from algo.whitening import no_whitening, random_whitening
from tests.conftest import CODES


def make(axis: Axis = "out", bias: bool = False, digits: object = None) -> ReferenceLinear:
    rng = np.random.default_rng(0)
    weights = torch.from_numpy(rng.standard_normal((40, 96)).astype("f"))
    whitening = random_whitening(96, 1)
    matrix = quantise_matrix(whitening.weights(weights), CODES["LQ-12/5+9"], axis)
    offset = torch.from_numpy(rng.standard_normal(40).astype("f")) if bias else None
    return ReferenceLinear(matrix, whitening, offset, digits)  # type: ignore[arg-type]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("digits", [None, 2])
def test_identity_returns_exactly_the_decoded_weights(axis: Axis, digits: int | None) -> None:
    layer = make(axis, digits=digits)
    # two digits count in steps of max|x| / (127*128); make that step 1
    size = 1.0 if digits is None else 127.0 * 128
    out = layer.forward_whitened(torch.eye(96) * size)
    assert torch.equal(out.T, layer.decoded() * size)


def test_layer_without_whitening_is_its_matrix() -> None:
    matrix = make().matrix
    layer = ReferenceLinear(matrix, no_whitening(96))
    assert torch.equal(layer(torch.eye(96)).T, matrix.dequantise())


def test_output_is_the_product_with_the_weights_in_the_layers_own_basis() -> None:
    layer = make(bias=True)
    x = torch.from_numpy(np.random.default_rng(3).standard_normal((2, 5, 96)))
    dense = layer.whitening.undo(layer.matrix.dequantise().double())
    expected = x @ dense.T + layer.bias.double()
    torch.testing.assert_close(layer(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_bias_of_the_integer_layer_is_added_in_float32(dtype: torch.dtype) -> None:
    layer, plain = make(bias=True, digits=1), make(digits=1)
    x = torch.from_numpy(np.random.default_rng(6).standard_normal((2, 40, 96))).to(dtype)
    product = plain.forward_whitened(x.float())
    expected = (product + layer.bias).to(dtype)
    assert torch.equal(layer.forward_whitened(x), expected)
    early = product.to(dtype) + layer.bias.to(dtype)
    # the order of rounding shows
    assert torch.equal(early, expected) == (dtype == torch.float32)


def test_fifteen_bit_integers_are_in_effect_lossless() -> None:
    x = torch.from_numpy(np.random.default_rng(4).standard_normal((7, 96)).astype("f"))
    exact, integer = make()(x), make(digits=2)(x)
    # each input is off by at most half a step of max|x| / 16256, in whitened coordinates
    bound = make().decoded().abs().sum(1) * (x @ torch.eye(96)).norm(dim=1, keepdim=True) / 16256
    assert ((exact - integer).abs() <= bound).all()


@pytest.mark.parametrize(
    ("dtype", "unit"),
    [(torch.float32, 2.0**-24), (torch.float16, 2.0**-11), (torch.bfloat16, 2.0**-8)],
)
def test_floating_point_stays_within_its_stated_bound(dtype: torch.dtype, unit: float) -> None:
    layer = make()
    x = torch.from_numpy(np.random.default_rng(5).standard_normal((50, 96))).to(dtype)
    weights = layer.matrix.dequantise().double()
    exact = x.double() @ weights.T
    bound = 96 * 2.0**-23 * (x.double().abs() @ weights.abs().T) + unit * exact.abs()
    assert ((layer.forward_whitened(x).double() - exact).abs() <= bound).all()
    assert layer(x).dtype == dtype
    assert torch.equal(layer.forward_whitened(torch.eye(96, dtype=dtype)).T, weights.to(dtype))


def test_decoded_weights_are_made_once_and_can_be_released() -> None:
    layer = make()
    assert layer.decoded() is layer.decoded()
    first = layer.decoded()
    layer.release()
    assert layer.decoded() is not first
    assert layer.decoded(torch.bfloat16).dtype == torch.bfloat16
    assert not list(layer.state_dict())
    assert "LQ-12/5+9, axis=out" in repr(layer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_integer_layer_takes_activations_whitened_in_order(dtype: torch.dtype) -> None:
    layer = make(digits=2)
    x = torch.from_numpy(np.random.default_rng(6).standard_normal((9, 96))).to(dtype)
    want = layer.forward_whitened(layer.whitening.ordered(x)).to(dtype)
    assert torch.equal(layer(x), want)
    assert torch.equal(layer(x[4]), want[4])  # whatever the batch
