"""The whole integer layer on the CPU, against the reference."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo.errors import LiftError
from algo.layer import ReferenceLinear
from algo.whitening import Whitening, random_whitening
from gpu.cpu.layer import cpu_layer, cpu_linear
from gpu.whiten import whitening_tensors
from tests.conftest import CODES
from tests.gpu.cases import GEOMETRIES, random_code
from tests.gpu.layers import bits_of, layer

TYPES = [torch.float32, torch.float16, torch.bfloat16]


def whitening_of(rng, n) -> Whitening:
    """Random factors and input scales."""
    plain = random_whitening(n, int(rng.integers(1000)))
    pre = torch.from_numpy(rng.uniform(0.5, 2, n)).to(torch.bfloat16)
    return Whitening(plain.left, plain.right, pre)


def reference(x, whitening, matrices, biases, digits):
    """What as many reference layers give, side by side."""
    each = [
        ReferenceLinear(m, whitening, b, digits=digits)(x)
        for m, b in zip(matrices, biases, strict=True)
    ]
    return torch.cat(each, dim=1)


def equal(x, whitening, matrices, biases, digits) -> bool:
    layers = [cpu_layer(m, b) for m, b in zip(matrices, biases, strict=True)]
    out = cpu_linear(x, whitening_tensors(whitening), layers, digits)
    wanted = reference(x, whitening, matrices, biases, digits)
    assert out.dtype == x.dtype
    assert out.shape == wanted.shape
    return torch.equal(bits_of(out), bits_of(wanted))


@given(
    st.sampled_from(GEOMETRIES),
    st.sampled_from(["in", "out"]),
    st.sampled_from([(40, 33), (63, 130), (65, 64), (131, 576), (192, 100)]),
    st.sampled_from([1, 3, 17, 40]),
    st.sampled_from(TYPES),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_every_layer_equals_the_reference(geometry, axis, shape, tokens, dtype, digits, bias, seed):
    rng = np.random.default_rng(seed)
    matrix = layer(rng, random_code(rng, *geometry), axis, shape, int(rng.integers(-1, 2)))
    x = torch.from_numpy(rng.standard_normal((tokens, shape[1]))).to(dtype)
    given_bias = torch.from_numpy(rng.standard_normal(shape[0])) if bias else None
    assert equal(x, whitening_of(rng, shape[1]), [matrix], [given_bias], digits)


@pytest.mark.parametrize("shape", [(576, 576), (192, 576), (1536, 576), (576, 1536)])
@pytest.mark.parametrize("code", ["LQ-12/5+9", "LQ-2/1+10^12"])
def test_real_shapes_in_shipped_codes(shape, code):
    from algo.shipped import load_code

    rng = np.random.default_rng(8)
    matrix = layer(rng, load_code(code), "out", shape)
    for tokens in (1, 40):
        x = torch.from_numpy(rng.standard_normal((tokens, shape[1]))).to(torch.bfloat16)
        assert equal(x, whitening_of(rng, shape[1]), [matrix], [None], 1)


def test_layers_of_one_input_stand_side_by_side():
    rng = np.random.default_rng(9)
    names = ("LQ-12/5+9", "LQ-24/10", "LQ-2/1+10")
    shapes = ((150, 77), (37, 77), (33, 77))
    matrices = [layer(rng, CODES[n], "out", s) for n, s in zip(names, shapes, strict=True)]
    biases = [torch.from_numpy(rng.standard_normal(150)).half(), None, torch.ones(33)]
    x = torch.from_numpy(rng.standard_normal((5, 77))).float()
    for digits in (1, 2):
        assert equal(x, whitening_of(rng, 77), matrices, biases, digits)


@pytest.mark.parametrize("tokens", [1, 4, 70])
def test_tokens_that_are_no_numbers_give_nan_and_leave_the_others_alone(tokens):
    rng = np.random.default_rng(10)
    matrix = layer(rng, CODES["LQ-12/5+9"], "out", (50, 60))
    whitening, layers = random_whitening(60, 1), [cpu_layer(matrix)]
    for bad in (torch.nan, torch.inf, -torch.inf):
        x = torch.from_numpy(rng.standard_normal((tokens, 60))).float()
        wanted = reference(x, whitening, [matrix], [None], 1)
        x[tokens // 2, 7] = bad
        out = cpu_linear(x, whitening_tensors(whitening), layers, 1)
        wanted[tokens // 2] = torch.nan
        assert torch.equal(out.isnan(), wanted.isnan())
        assert torch.equal(out.nan_to_num(0.0), wanted.nan_to_num(0.0))


@pytest.mark.parametrize("tokens", [0, 3, 70])
def test_tokens_of_zeros_and_no_tokens(tokens):
    rng = np.random.default_rng(11)
    matrix = layer(rng, CODES["LQ-2/1+10"], "out", (50, 60))
    x = torch.zeros(tokens, 60)
    assert equal(x, random_whitening(60, 1), [matrix], [torch.ones(50)], 1)


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("name", ["LQ-12/5+9", "LQ-2/1+6^3"])
def test_no_tokens_give_no_rows(name, axis):
    matrices = [layer(np.random.default_rng(18), CODES[name], axis, (n, 60)) for n in (50, 33)]
    for dtype in TYPES:
        assert equal(torch.zeros(0, 60).to(dtype), random_whitening(60, 1), matrices, [None] * 2, 1)


@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e-30, 1e30])
def test_activations_of_every_size(size):
    rng = np.random.default_rng(12)
    matrix = layer(rng, CODES["LQ-2/1+10"], "out", (50, 60))
    x = torch.from_numpy(rng.standard_normal((4, 60)) * size).float()
    for digits in (1, 2):
        assert equal(x, whitening_of(rng, 60), [matrix], [None], digits)


def test_rows_at_any_distance():
    rng = np.random.default_rng(13)
    matrix = layer(rng, CODES["LQ-12/5+9"], "out", (50, 60))
    wide = torch.from_numpy(rng.standard_normal((5, 200))).half()
    for x in (
        wide[:, 7:67],
        wide[::2, ::3][:, :60],
        wide.T[:60].T[1:3],
        wide[:1, :60].expand(4, 60),
    ):
        assert equal(x, random_whitening(60, 1), [matrix], [None], 2)


@pytest.mark.parametrize("tokens", [1, 40])
@pytest.mark.parametrize("axis", ["in", "out"])
def test_tensors_are_made_on_the_cpu_whatever_device_is_the_default(axis, tokens):
    rng = np.random.default_rng(17)
    matrix = layer(rng, CODES["LQ-12/5+9"], axis, (50, 60))
    whitening = random_whitening(60, 1)
    x = torch.from_numpy(rng.standard_normal((tokens, 60))).bfloat16()
    tensors = whitening_tensors(whitening)
    with torch.device("meta"):
        out = cpu_linear(x, tensors, [cpu_layer(matrix)], 1)
    assert torch.equal(out, reference(x, whitening, [matrix], [None], 1))


@pytest.mark.parametrize("dtype", TYPES)
def test_a_view_that_turns_signs_is_read_with_them(dtype):
    rng = np.random.default_rng(19)
    matrix = layer(rng, CODES["LQ-12/5+9"], "out", (50, 60))
    x = torch._neg_view(torch.from_numpy(rng.standard_normal((3, 60))).to(dtype))
    assert equal(x, random_whitening(60, 1), [matrix], [None], 1)


def test_a_bias_of_another_size_is_refused():
    matrix = layer(np.random.default_rng(14), CODES["LQ-12/5+9"], "out", (50, 60))
    with pytest.raises(LiftError, match="bias of shape"):
        cpu_layer(matrix, torch.zeros(49))


def test_what_does_not_fit_is_refused_before_any_kernel_reads_it():
    rng = np.random.default_rng(15)
    good = cpu_layer(layer(rng, CODES["LQ-12/5+9"], "out", (50, 60)))
    across = cpu_layer(layer(rng, CODES["LQ-12/5+9"], "in", (50, 60)))
    whitening, x = whitening_tensors(random_whitening(60, 1)), torch.ones(2, 60)
    for given_x, layers, digits, message in (
        (torch.ones(2, 61), [good], 1, r"need \(tokens, 60\)"),
        (torch.ones(60), [good], 1, r"need \(tokens, 60\)"),
        (x.double(), [good], 1, "torch.float64"),
        (x, [good], 3, "neither 1"),
        (x, [], 1, "need one axis"),
        (x, [good, across], 1, "need one axis"),
        (x, [good._replace(bits=good.bits[:-1])], 1, "words"),
        (x, [good._replace(scales=good.scales[:-1])], 1, "49 scales"),
        (x, [good._replace(bias=good.bias[:-1])], 1, "49 biases"),
        (x, [good._replace(shape=(50, 30))], 1, "needs 60 columns"),
    ):
        with pytest.raises(LiftError, match=message):
            cpu_linear(given_x, whitening, layers, digits)


def test_a_layer_too_wide_for_int32_sums_is_refused():
    matrix = layer(np.random.default_rng(16), CODES["LQ-1/1"], "out", (1, 262_144))
    with pytest.raises(LiftError, match="over 262143"):
        cpu_layer(matrix)
