"""What a `LiftLinear` gives back: its matrices, and a state that another one loads."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from algo.code import LiftCode
from algo.layer import ReferenceLinear
from algo.matrix import AXES, PackedMatrix, row_slice
from algo.whitening import Whitening, random_whitening, skew_entries
from gpu.linear import LiftLinear
from tests.conftest import CODES
from tests.gpu.layers import layer
from tests.gpu.served import INPUTS, LINEAR, PARITIES, expected, inputs, made, same

FORMS = ("cpu", "kernels")


def equal(a: PackedMatrix, b: PackedMatrix) -> bool:
    parts = (a.code, a.axis, a.shape) == (b.code, b.axis, b.shape)
    scales = torch.equal(a.scales.view(torch.int16), b.scales.view(torch.int16))
    return parts and np.array_equal(a.words, b.words) and scales


def turned_whitening(rng):
    whitening = random_whitening(INPUTS, 5)
    turns = [
        torch.from_numpy(rng.normal(size=skew_entries(len(f))) / 9).to(torch.bfloat16)
        for f in (whitening.left, whitening.right)
    ]
    pre = torch.from_numpy(rng.uniform(0.5, 2, INPUTS)).to(torch.bfloat16)
    return whitening.with_turns((turns[0], turns[1]), pre)


def same_whitening(a: Whitening, b: Whitening) -> bool:
    pairs = [(a.left, b.left), (a.right, b.right), (a.pre, b.pre)]
    pairs += zip(a.turns or (), b.turns or (), strict=True)
    return all(x is y is None or (x.dtype == y.dtype and torch.equal(x, y)) for x, y in pairs)


@given(
    names=st.lists(st.sampled_from(sorted(CODES)), min_size=1, max_size=3),
    axis=st.sampled_from(AXES),
    inputs=st.sampled_from([12, 17, 32, 33, 77, 129]),
    outputs=st.sampled_from([12, 13, 31, 64, 99]),
    bit=st.sampled_from([-1, -1, 0, 1]),
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_matrices_come_back_bit_for_bit(names, axis, inputs, outputs, bit, form, seed):
    rng = np.random.default_rng(seed)
    names = [names[0]] * len(names) if axis == "in" else names
    shapes = [(outputs + 3 * i, inputs) for i in range(len(names))]
    matrices = [layer(rng, CODES[n], axis, s, bit) for n, s in zip(names, shapes, strict=True)]
    tiny = torch.tensor([-0.0, 2.0**-133, -(2.0**-126), 0.99e30, -1e-38], dtype=torch.bfloat16)
    matrices[0].scales[:5] = tiny
    whitening = random_whitening(inputs, 3)
    module = LiftLinear(matrices, whitening)
    module._lay_out(form)
    assert module.form == form
    assert all(map(equal, module.matrices(), matrices))
    assert same_whitening(module.stored().whitening, whitening)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layers", [LINEAR, PARITIES], ids=str)
def test_all_that_was_given_comes_back(layers, form):
    rng = np.random.default_rng(7)
    module, _ = made(layers, "out", 1)
    matrices, biases = module.matrices(), [torch.randn(n).half() for _, n in layers]
    biases[1] = None
    whitening = turned_whitening(rng)
    again = LiftLinear(matrices, whitening, 1, biases)
    again._lay_out(form)
    stored = again.stored()
    assert all(map(equal, stored.matrices, matrices))
    assert same_whitening(stored.whitening, whitening)
    for got, want in zip(stored.biases, biases, strict=True):
        assert (got is None) == (want is None)
        assert got is None or (got.dtype == torch.float32 and torch.equal(got, want.float()))


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["LQ-12/5+9", "LQ-2/1+6^3"])
def test_shares_of_a_layer_side_by_side_are_the_layer(name, form, axis):
    from gpu.interpret import interpreter

    rng = np.random.default_rng(11)
    matrix = layer(rng, CODES[name], axis, (101, INPUTS))
    whitening, bias = random_whitening(INPUTS, 1), torch.randn(101)
    want = ReferenceLinear(matrix, whitening, bias, 1)(inputs(3))
    got = []
    for ranges in ([(0, 20), (50, 51)], [(20, 50), (51, 101)]):
        parts = [row_slice(matrix, *r) for r in ranges]
        rows = [
            slice(offset, offset + b - a) for (a, b), (_, offset) in zip(ranges, parts, strict=True)
        ]
        biases = [bias[a:b] for a, b in ranges]
        module = LiftLinear([m for m, _ in parts], whitening, 1, biases, rows=rows)
        assert module.out_features == tuple(b - a for a, b in ranges)
        assert torch.equal(module.stored().biases[1], biases[1])
        if form == "cpu":
            out = module(inputs(3))
        else:
            with interpreter(checked=False) as run:
                out = module.by_kernels(run, inputs(3))
        assert all(map(equal, module.matrices(), [m for m, _ in parts]))
        got.append(out.split(module.out_features, dim=1))
    (a, c), (b, d) = got
    assert same(torch.cat([a, b, c, d], dim=1), want)


@pytest.mark.parametrize("layers", [LINEAR, PARITIES], ids=str)
def test_a_state_loads_into_a_layer_of_the_same_build(layers, tmp_path):
    rng = np.random.default_rng(8)
    first, _ = made(layers, "out", 1)
    whitening = turned_whitening(rng)
    stored = first.stored()
    first = LiftLinear(stored.matrices, whitening, 1, stored.biases)
    first._lay_out("kernels")  # the state does not depend on it
    model = nn.Sequential(first, nn.Linear(2, 2))
    torch.save(model.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["0.weight"].dtype == torch.uint32
    assert {"0.scales", "0.bias", "0.weight_1", "0.pre", "0.turn_left", "0.left"} <= state.keys()
    other = LiftLinear(
        [layer(rng, m.code, "out", m.shape) for m in stored.matrices],
        turned_whitening(rng),
        1,
        [None if b is None else torch.zeros_like(b) for b in stored.biases],
    )
    target = nn.Sequential(other, nn.Linear(2, 2))
    assert not same(other(inputs(2)), first(inputs(2)))
    assert not any(target.load_state_dict(state))
    assert same(other(inputs(2)), first(inputs(2)))
    assert same_whitening(other.stored().whitening, whitening)
    with pytest.raises(RuntimeError, match=r'Missing key\(s\).*"0.scales"'):
        target.load_state_dict({k: v for k, v in state.items() if k != "0.scales"})
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\).*"0.words"'):
        target.load_state_dict(state | {"0.words": state["0.weight"]})


def test_some_of_a_state_replaces_that_alone():
    module, alone = made(LINEAR, "out", 1)
    want = expected(alone, inputs(2))
    state = module.state_dict()
    state = {"bias": state["bias"] + 1, "scales_1": state["scales_1"] * 0}
    result = module.load_state_dict(state, strict=False)
    assert "weight" in result.missing_keys
    got = module(inputs(2))
    assert same(got[:, 83:], want[:, 83:])
    assert not got[:, 33:83].any()
    assert not same(got[:, :33], want[:, :33])
    assert torch.equal(module.stored().biases[0], alone[0].bias + 1)


def _other(code: LiftCode) -> LiftCode:
    return LiftCode(
        code.lifted, code.group, code.overlap, code.shifts, -code.taps, code.exponent, code.parities
    )


def test_what_belongs_to_another_layer_is_refused_by_name():
    module, alone = made(LINEAR, "out", 1)
    want = expected(alone, inputs(2))
    state = module.state_dict()
    matrices = module.matrices()
    odd = [
        ("weight_1", state["weight_1"][:, :2], r"weight_1 is torch.uint32 of shape \(77, 2\)"),
        ("scales", state["scales"].float(), "scales is torch.float32"),
        ("weight", state["weight"].view(torch.int32), "weight is torch.int32"),
        ("left", state["left"] * 2, "left factor is not orthogonal"),
        ("scales", state["scales"] * torch.nan, "the scales are corrupt"),
        ("weight", ~state["weight"].view(torch.int32), "padding bits set"),
    ]
    odd[-1] = ("weight", (~state["weight"].view(torch.int32)).view(torch.uint32), odd[-1][2])
    for name, tensor, message in odd:
        with pytest.raises(RuntimeError, match=message):
            module.load_state_dict(state | {name: tensor})
        assert same(module(inputs(2)), want)
    others = [PackedMatrix(_other(m.code), m.axis, m.shape, m.words, m.scales) for m in matrices]
    others[1:] = matrices[1:]
    stored = module.stored()
    other = LiftLinear(others, stored.whitening, 1, stored.biases)
    with pytest.raises(RuntimeError, match=r"weight is in a code of SHA-256 \w+..., this layer in"):
        module.load_state_dict(other.state_dict())
    assert same(module(inputs(2)), want)


def test_a_bias_may_come_in_another_type():
    module, _ = made(LINEAR[:1], "out", 1)
    state = module.state_dict()
    module.load_state_dict(state | {"bias": state["bias"].bfloat16()})
    assert torch.equal(module.stored().biases[0], state["bias"].bfloat16().float())


def test_a_copy_is_independent():
    module, alone = made(PARITIES, "in", 1)
    module(inputs(1))
    other = copy.deepcopy(module)
    for buffer in module.buffers():
        buffer.zero_()
    assert same(other(inputs(2)), expected(alone, inputs(2)))
    assert not same(module(inputs(2)), expected(alone, inputs(2)))


def test_a_module_is_saved_whole_after_it_was_called():
    module, alone = made(LINEAR, "out", 1)
    module(inputs(1))
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for other in (torch.load(file, weights_only=False), pickle.loads(pickle.dumps(module))):
        assert same(other(inputs(2)), expected(alone, inputs(2)))


def test_buffers_of_others_stay():
    module, alone = made(LINEAR, "out", 1)
    module.register_buffer("mask", torch.ones(3))
    module.register_buffer("absent", None)
    module._lay_out("kernels")
    module.load_state_dict(module.state_dict(), strict=False)
    assert same(module(inputs(2)), expected(alone, inputs(2)))
    assert torch.equal(module.mask, torch.ones(3))
    assert "absent" in module._buffers
