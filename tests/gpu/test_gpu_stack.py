"""Stacks of layers: their tensors, their bounds and what they refuse."""

import numpy as np
import pytest
import torch

from algo.errors import LiftError
from algo.lifted import MAX_INNER, bounds, one_bit_words
from algo.matrix import AXES
from gpu import stack as stack_module
from gpu.stack import ROW_WORDS, Segment, stack_layers
from gpu.tables import MAX_INNER as KERNELS_MAX_INNER
from tests.conftest import CODES, random_code
from tests.gpu.layers import SEED, layer, three


@pytest.mark.parametrize("axis", AXES)
def test_rows_of_bits_are_the_layers_own_padded_to_whole_loads(axis):
    matrices, _ = three(axis)
    stack = stack_layers(matrices, 1)
    assert stack.words.shape[1] % ROW_WORDS == 0
    assert stack.row_bytes % 16 == 0
    for segment, matrix in zip(stack.rows(), matrices, strict=True):
        own = one_bit_words(matrix)
        rows = stack.words[segment.first_bit : segment.first_bit + segment.bits].numpy()
        assert np.array_equal(rows[:, : own.shape[1]].view(np.uint32), own)
        assert not rows[:, own.shape[1] :].any()
    assert stack.outputs == 220


def test_segments_of_mixed_codes():
    stack = stack_layers(three("out")[0], 1)
    assert stack.rows() == [
        Segment(0, 360, 12, 5, 12, 0, 150, 0, 0),
        Segment(360, 96, 24, 10, 24, 150, 37, 60, 5),
        Segment(456, 66, 2, 1, 12, 187, 33, 300, 15),
    ]
    assert stack.taps[60:300].tolist() == CODES["LQ-24/10"].window_taps.reshape(-1).tolist()
    assert stack.starts.tolist() == [0, 2, 4, 7, 9, *[0] * 10, 0]


def test_axis_in_is_the_code_of_one_tap():
    stack = stack_layers(three("in")[0], 1)
    assert stack.rows()[1] == Segment(150, 37, 1, 1, 1, 150, 37, 1, 1)
    assert stack.taps.tolist() == [1, 1, 1]


def test_scales_are_exact_and_an_absent_bias_changes_nothing():
    matrices, _ = three("out")
    given = torch.arange(33).to(torch.bfloat16)
    stack = stack_layers(matrices, 2, [None, None, given])
    first = matrices[0]
    assert torch.equal(stack.scales[:150].double(), first.scales.double() * 2.0**-6)
    assert torch.equal(stack.bias[187:], given.float())
    absent = stack.bias[:187]
    for zero in (0.0, -0.0):
        same = torch.full_like(absent, zero)
        assert torch.equal((same + absent).view(torch.int32), same.view(torch.int32))
    tiny = torch.tensor([2.0**-133, -(2.0**-126)] * 20).to(torch.bfloat16)  # below float32's normal
    small = layer(np.random.default_rng(0), CODES["LQ-32/16"], "out", (40, 9))
    small.scales.copy_(tiny)
    assert torch.equal(stack_layers([small], 1).scales.double(), tiny.double() * 2.0**-7)


def test_bounds_are_those_of_the_largest_layer():
    matrices, _ = three("out")
    each = [bounds(m.shape, m.code, "out", 2) for m in matrices]
    stack = stack_layers(matrices, 2)
    assert stack.bounds.projected == max(b.projected for b in each) > each[2].projected
    assert stack.bounds.per_token == 2


def test_the_bound_of_the_kernels_is_the_bound_of_the_layers():
    assert MAX_INNER == KERNELS_MAX_INNER


def test_tensors_are_named_and_go_back():
    stack = stack_layers(three("out")[0], 1)
    tensors = stack.tensors()
    assert list(tensors) == ["words", "segments", "taps", "starts", "scales", "bias"]
    moved = stack.to("meta")
    assert {t.device.type for t in moved.tensors().values()} == {"meta"}
    back = moved._replace(**tensors)
    assert back.rows() == stack.rows()
    assert back.words is stack.words


def test_layers_that_do_not_share_an_input_are_refused():
    rng = np.random.default_rng(SEED)
    code, other = CODES["LQ-12/5+9"], random_code(12, 5, 12, seed=1)
    out = layer(rng, code, "out", (40, 77))
    with pytest.raises(LiftError, match="needs at least one layer"):
        stack_layers([], 1)
    with pytest.raises(LiftError, match="axis out and on axis in cannot be one stack"):
        stack_layers([out, layer(rng, code, "in", (40, 77))], 1)
    with pytest.raises(LiftError, match="layers of 77 and of 78 inputs cannot be one stack"):
        stack_layers([out, layer(rng, code, "out", (40, 78))], 1)
    stack_layers([out, layer(rng, other, "out", (40, 77))], 1)
    with pytest.raises(LiftError, match="the lifted input depends on the code"):
        stack_layers([layer(rng, code, "in", (4, 77)), layer(rng, other, "in", (4, 77))], 1)


@pytest.mark.parametrize("axis", AXES)
def test_parities_are_refused(axis):
    parities = layer(np.random.default_rng(SEED), CODES["LQ-2/1+6^3"], axis, (40, 40))
    with pytest.raises(LiftError, match="decode the layer, or quantise it with --no-parities"):
        stack_layers([parities], 1)


def test_layers_that_could_overflow_are_refused(monkeypatch):
    matrices, _ = three("out")
    stack_layers(matrices, 2)
    monkeypatch.setattr("algo.lifted.MAX_INNER", 76)
    with pytest.raises(LiftError, match=r"150x77 layer in LQ-12/5.9 on axis out has an inner dim"):
        stack_layers(matrices, 2)


def test_a_stack_too_large_for_its_indices_is_refused(monkeypatch):
    size = stack_layers(three("out")[0], 1).words.numel() * 4
    monkeypatch.setattr(stack_module, "MAX_ELEMENTS", size)
    stack_layers(three("out")[0], 1)
    monkeypatch.setattr(stack_module, "MAX_ELEMENTS", size - 1)
    with pytest.raises(LiftError, match=r"522 rows of 16 bytes is over 8351 bytes.*fewer"):
        stack_layers(three("out")[0], 1)


def test_biases_that_do_not_fit_are_named():
    matrices, _ = three("out")
    with pytest.raises(LiftError, match="2 biases for 3 layers"):
        stack_layers(matrices, 1, [None, None])
    with pytest.raises(LiftError, match=r"bias is torch\.float32 of shape \(38,\); a layer of 37"):
        stack_layers(matrices, 1, [None, torch.zeros(38), None])
    with pytest.raises(LiftError, match=r"bias is torch\.int32 of shape \(37,\)"):
        stack_layers(matrices, 1, [None, torch.zeros(37, dtype=torch.int32), None])
