import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo.code import LiftCode
from algo.decode import decode_bits
from algo.layer import ReferenceLinear
from algo.matrix import AXES, Axis, PackedMatrix
from algo.packing import pack_bits, stream_groups
from algo.tunable import InputScales, TunableLinear, sign_accumulators, tunable_layers
from algo.whitening import Whitening, no_whitening, random_whitening
from tests.conftest import CODES, random_bits

ROWS, COLUMNS = 23, 30  # neither fills the groups of every code


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def scaled_whitening(n: int, seed: int = 1) -> Whitening:
    plain = random_whitening(n, seed)
    return Whitening(plain.left, plain.right, gaussian(n, seed=seed).exp().to(torch.bfloat16))


def tunable(
    matrix: PackedMatrix, whitening: Whitening, bias: torch.Tensor | None = None,
    signs: bool = False,
) -> TunableLinear:  # fmt: skip
    return TunableLinear(matrix, whitening, InputScales(whitening), bias, signs)


def packed(code: LiftCode, axis: Axis) -> PackedMatrix:
    """Random words: any of them is a codeword."""
    streams, weights = (ROWS, COLUMNS) if axis == "in" else (COLUMNS, ROWS)
    bits = random_bits(streams, stream_groups(weights, code) * code.lifted, 3)
    scales = gaussian(ROWS, seed=4).to(torch.bfloat16)
    return PackedMatrix(code, axis, (ROWS, COLUMNS), pack_bits(bits), scales)


def test_accumulators_of_signs_are_those_of_the_decoder(code: LiftCode) -> None:
    groups = -(-(code.lifted + code.overlap) // code.lifted) + 3
    bits = random_bits(5, groups * code.lifted, 6)
    signs = torch.from_numpy(bits.astype(np.float32)) * 2 - 1
    assert np.array_equal(sign_accumulators(signs, code).numpy(), decode_bits(bits, code))


@given(name=st.sampled_from(sorted(CODES)), seed=st.integers(0, 1000))
def test_gradient_is_the_change_that_a_flipped_sign_makes(name: str, seed: int) -> None:
    """Every feature is linear in each of its signs, so a flip changes the sum by 2 gradients."""
    code = CODES[name]
    groups = -(-(code.lifted + code.overlap) // code.lifted) + 1
    rng = np.random.default_rng(seed)
    signs = torch.from_numpy(rng.choice([-1.0, 1.0], (2, groups * code.lifted)))
    weight = torch.from_numpy(rng.standard_normal((2, groups * code.group)))
    leaf = signs.clone().requires_grad_()
    before = (sign_accumulators(leaf, code) * weight).sum()
    (gradient,) = torch.autograd.grad(before, leaf)
    place = int(rng.integers(signs.shape[1]))
    flipped = signs.clone()
    flipped[1, place] *= -1
    change = (sign_accumulators(flipped, code) * weight).sum() - before
    torch.testing.assert_close(change, -2 * signs[1, place] * gradient[1, place])


@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize("axis", AXES)
def test_layer_computes_what_the_packed_one_does(code: LiftCode, axis: Axis, signs: bool) -> None:
    matrix, whitening = packed(code, axis), scaled_whitening(COLUMNS)
    bias, x = gaussian(ROWS, seed=2), gaussian(4, COLUMNS, seed=3)
    expected = ReferenceLinear(matrix, whitening, bias)(x)
    torch.testing.assert_close(tunable(matrix, whitening, bias, signs)(x), expected,
                               rtol=1e-4, atol=1e-4)  # fmt: skip


@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize("axis", AXES)
def test_untrained_layer_is_stored_as_it_was(code: LiftCode, axis: Axis, signs: bool) -> None:
    matrix = packed(code, axis)
    matrix.scales[:4] = torch.tensor([0.0, -0.75, 1e-25, 1e25], dtype=torch.bfloat16)
    stored = tunable(matrix, no_whitening(COLUMNS), None, signs).stored()
    assert np.array_equal(stored.words, matrix.words)
    assert torch.equal(stored.scales, matrix.scales)
    assert (stored.code, stored.axis, stored.shape) == (matrix.code, axis, matrix.shape)


def test_rows_of_scale_zero_stay_zero_in_training() -> None:
    matrix = packed(CODES["LQ-12/5+9"], "out")
    matrix.scales[3] = 0
    layer = tunable(matrix, no_whitening(COLUMNS))
    adam = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(5):
        adam.zero_grad()
        out = layer(gaussian(4, COLUMNS))
        assert not out[:, 3].any()
        (out - 1).square().sum().backward()
        adam.step()
    scales = layer.stored().scales
    assert scales[3] == 0
    assert torch.isfinite(scales).all()


@pytest.mark.parametrize("axis", AXES)
def test_trained_signs_are_a_codeword_of_the_same_code(code: LiftCode, axis: Axis) -> None:
    matrix = packed(code, axis)
    layer = tunable(matrix, scaled_whitening(COLUMNS), None, True)
    adam = torch.optim.Adam(layer.parameters(), lr=0.4)
    x, wanted = gaussian(16, COLUMNS, seed=5), gaussian(16, ROWS, seed=6)
    for _ in range(4):
        adam.zero_grad()
        (layer(x) - wanted).square().sum().backward()
        adam.step()
    stored = layer.stored()  # a PackedMatrix checks its shape
    assert not np.array_equal(stored.words, matrix.words)
    # what was trained is what is stored: padding is zero, and the words decode to its weights
    whitening = layer.inputs.stored(scaled_whitening(COLUMNS))
    trained = layer.log_scales.detach().exp()
    torch.testing.assert_close(stored.scales.float().abs(), trained, rtol=2**-8, atol=0)
    dense = torch.from_numpy(stored.accumulators() * np.float32(2.0**-code.exponent))
    rotation = Whitening(whitening.left, whitening.right)
    torch.testing.assert_close(layer.weights(), rotation.undo(dense), rtol=1e-4, atol=1e-4)


def test_gradients_reach_scales_and_latents_but_not_a_fixed_input() -> None:
    matrix = packed(CODES["LQ-2/1+6^3"], "in")
    layer = tunable(matrix, scaled_whitening(COLUMNS), gaussian(ROWS), True)
    layer(gaussian(2, COLUMNS)).square().sum().backward()
    named = dict(layer.named_parameters())
    assert set(named) == {"latent", "log_scales", "inputs.logs"}
    assert all(bool(p.grad.any()) for p in named.values() if p.grad is not None)
    assert all(p.grad is not None for p in named.values())
    plain = tunable(matrix, no_whitening(COLUMNS))
    assert [n for n, p in plain.named_parameters() if p.requires_grad] == ["log_scales"]


def test_input_scales_are_stored_where_there_is_place_for_them() -> None:
    whitening = scaled_whitening(COLUMNS)
    scales = InputScales(whitening)
    assert torch.equal(scales.stored(whitening).pre, whitening.pre)
    with torch.no_grad():
        scales.logs += np.log(2)
    assert torch.equal(scales.stored(whitening).pre, whitening.pre * 2)
    plain = no_whitening(COLUMNS)
    assert InputScales(plain).stored(plain) is plain


def test_layers_of_one_input_train_one_set_of_scales() -> None:
    matrix = packed(CODES["LQ-16/8"], "in")
    shared, own = scaled_whitening(COLUMNS, 1), scaled_whitening(COLUMNS, 2)
    layers = tunable_layers(
        dict.fromkeys("abc", matrix), {"a": shared, "b": shared, "c": own},
        {"a": None, "b": gaussian(ROWS), "c": None},
    )  # fmt: skip
    assert layers["a"].inputs is layers["b"].inputs
    assert layers["a"].inputs is not layers["c"].inputs
    assert torch.equal(layers["b"].bias, gaussian(ROWS))
    assert layers["a"].latent is None
