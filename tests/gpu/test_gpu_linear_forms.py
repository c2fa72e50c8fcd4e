"""What moving and casting a `LiftLinear` does to how its weights lie."""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from algo.errors import LiftError
from algo.whitening import random_whitening
from gpu import linear
from gpu.interpret import interpreter
from gpu.linear import LiftLinear
from gpu.linear_layout import laid_out, template
from gpu.linear_spec import FORMS, linear_spec, parsed
from gpu.tensor_tree import Assembly, Leaf, taken_apart
from tests.conftest import CODES
from tests.gpu.layers import layer
from tests.gpu.served import INPUTS, LINEAR, PARITIES, expected, inputs, made, same


def bits(module):
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def unchanged(module, before):
    now = dict(module.named_buffers())
    return before.keys() == now.keys() and all(
        torch.equal(before[n], b) and before[n].dtype == b.dtype for n, b in now.items()
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layers", [LINEAR, PARITIES], ids=str)
def test_casting_changes_no_bit(layers, form, monkeypatch):
    module, _ = made(layers, "out", 1)
    module._lay_out(form)
    monkeypatch.setattr(linear, "form_of", lambda _: form)
    model, before = nn.Sequential(module, nn.Linear(2, 2)), bits(module)
    for cast in (
        model.half,
        model.bfloat16,
        model.double,
        lambda: model.to(torch.float16),
        lambda: model.to("cpu", torch.bfloat16),
        lambda: model.type(torch.float16),
        model.share_memory,
    ):
        cast()
        assert unchanged(module, before)


@pytest.mark.parametrize(
    ("layers", "axis"), [(LINEAR, "out"), (LINEAR[:1], "in"), (PARITIES, "in")], ids=str
)
def test_moved_to_another_kind_of_device_the_weights_are_laid_out_anew(layers, axis, monkeypatch):
    module, alone = made(layers, axis, 2)
    model = nn.Sequential(module)
    want, before = expected(alone, inputs(3)), bits(module)
    assert same(model(inputs(3)), want)
    monkeypatch.setattr(linear, "form_of", lambda _: "kernels")  # as if the CPU were a GPU
    model.to("cpu")
    assert module.form == "kernels"
    assert ("stack_words" in bits(module)) == (layers is not PARITIES)
    assert not any(name.endswith("_bits") for name in bits(module))
    with interpreter(checked=False) as run:
        assert same(module.by_kernels(run, inputs(3)), want)
    monkeypatch.undo()
    model.cpu()
    assert module.form == "cpu"
    assert unchanged(module, before)
    assert same(model(inputs(3)), want)


def test_what_the_kernels_were_laid_out_for_is_put_back_for_the_cpu():
    module, alone = made(LINEAR, "out", 1)
    before = bits(module)
    with interpreter(checked=False) as run:
        module.by_kernels(run, inputs(1))
    assert module.form == "kernels"
    assert same(module(inputs(2)), expected(alone, inputs(2)))
    assert unchanged(module, before)


@pytest.mark.parametrize("form", FORMS)
def test_the_device_meta_and_back(form, monkeypatch):
    module, alone = made(PARITIES, "out", 1)
    state = module.state_dict()
    shapes = {name: (t.shape, t.dtype) for name, t in state.items()}
    module.to("meta")
    assert {name: (t.shape, t.dtype) for name, t in module.state_dict().items()} == shapes
    assert all(t.is_meta for t in module.state_dict().values())
    with pytest.raises(LiftError, match="the device meta, which holds none"):
        module.matrices()
    with pytest.raises(NotImplementedError, match="no data"):
        module.to("cpu")
    with pytest.raises(LiftError, match="activations are on cpu and weights on meta"):
        module(inputs(1))
    monkeypatch.setattr(linear, "form_of", lambda _: form)
    module.to_empty(device="cpu")
    assert module.form == form
    monkeypatch.undo()
    module.load_state_dict(state)
    assert same(module(inputs(2)), expected(alone, inputs(2)))


def test_no_memory_stays_behind():
    module, _ = made(LINEAR, "out", 1)
    module(inputs(1))
    held = [weakref.ref(tensor) for tensor in module.buffers()]
    other = copy.deepcopy(module)
    module.to("meta")
    gc.collect()
    assert not any(ref() is not None for ref in held)
    other(inputs(1))
    held = [weakref.ref(tensor) for tensor in other.buffers()]
    again = copy.deepcopy(other)
    again(inputs(1))
    del other
    gc.collect()
    assert not any(ref() is not None for ref in held)


def test_a_state_fills_a_layer_on_meta():
    module, alone = made(LINEAR, "out", 1)
    state = module.state_dict()
    module.to("meta").load_state_dict(state)
    assert module.device.type == "cpu"
    assert same(module(inputs(2)), expected(alone, inputs(2)))


def test_a_layer_built_where_tensors_are_made_on_meta_is_on_the_cpu():
    first, alone = made(LINEAR, "out", 1)
    stored = first.stored()
    with torch.device("meta"):
        module = LiftLinear(stored.matrices, stored.whitening, 1, stored.biases)
    assert same(module(inputs(2)), expected(alone, inputs(2)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("name", ["LQ-24/10", "LQ-12/5+9", "LQ-2/1+6^3", "LQ-1/1"])
def test_the_spec_tells_what_tensors_there_are(name, axis, scaled, form):
    rng = np.random.default_rng(3)
    names = [name, name if axis == "in" else "LQ-2/1+10"]
    matrices = [
        layer(rng, CODES[n], axis, (rows, 66)) for n, rows in zip(names, (17, 39), strict=True)
    ]
    whitening = random_whitening(66, 0)
    pre = torch.ones(66, dtype=torch.bfloat16) if scaled else None
    whitening = type(whitening)(whitening.left, whitening.right, pre)
    spec = linear_spec(matrices, whitening, 2, [slice(3, 9), slice(None)], form)
    parts = laid_out(spec, matrices, whitening, [None, torch.zeros(39)])
    found, held = taken_apart(parts)
    assert found == template(parsed(spec.as_json()))
    assembly = Assembly(found)
    assert all(isinstance(leaf, Leaf) for leaf in assembly.leaves)
    again, _ = taken_apart(assembly(held.values()))
    assert again == found
    assert all(t.dtype not in (torch.float32, torch.bfloat16) for t in held.values())


def test_a_spec_is_canonical_and_survives_json():
    module, _ = made(LINEAR, "out", 1)
    text = module._spec
    assert parsed(text).as_json() == text
    other, _ = made(LINEAR, "out", 1, bias=False)
    assert other._product is module._product  # alike, so they share what is not their own
    assert made(LINEAR, "out", 2)[0]._spec != text
    assert made(LINEAR[:2], "out", 1)[0]._product is not module._product


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"version":1', '"version":2', "exported in version 2 of its layout, this is 1"),
        ('"axis":"out"', '"axis":"up"', "damaged .*axis up"),
        ('"form":"cpu"', '"form":"gpu"', "damaged .*form gpu"),
        ('"digits":1', '"digits":3', "damaged .*digits 3"),
        ('"factors":[7,11]', '"factors":[7,12]', "damaged .*factors 7 and 12 for 77 inputs"),
        ('"inputs":77,', "", "damaged .*inputs"),
        ("[0,33,0,33]", "[0,33,0,34]", "of a matrix of 33 rows"),
        ("[0,33,0,33]", "[9,33,0,33]", "damaged .*IndexError"),
        ("[0,33,0,33]", "[0,3,0,3]", "3 weights is too narrow for LQ-12/5"),
        ('"exponent":7', '"exponent":70', "exponent 70 is outside"),
    ],
)
def test_a_damaged_spec_is_refused(old, new, message):
    module, _ = made(LINEAR, "out", 1)
    assert old in module._spec
    with pytest.raises(LiftError, match=message):
        parsed(module._spec.replace(old, new))


def test_rows_that_do_not_fit_are_refused():
    module, _ = made(LINEAR[:2], "out", 1)
    stored = module.stored()

    def with_rows(rows, biases=None):
        return LiftLinear(stored.matrices, stored.whitening, 1, biases, rows=rows)

    whole = with_rows([slice(None), range(50)])
    assert whole.out_features == (33, 50)
    with pytest.raises(LiftError, match="rows of 1 matrices for 2"):
        with_rows([slice(None)])
    for rows in (slice(0, 34), slice(3, 3), slice(-1, None), slice(0, 30, 2), range(5, 2)):
        with pytest.raises(LiftError, match=r"of a matrix of 33 rows; give a start and a stop"):
            with_rows([rows, slice(None)])
    with pytest.raises(LiftError, match=r"bias is .* a layer of 4 outputs needs"):
        with_rows([slice(0, 4), slice(None)], [torch.zeros(33), None])
    part = with_rows([slice(2, 6), slice(49, 50)])
    both = whole(inputs(3))
    assert same(part(inputs(3)), torch.cat([both[:, 2:6], both[:, 33 + 49 :]], dim=1))
    assert same(part(inputs(0)), both[:0, :5])
    assert part(inputs(6).reshape(2, 3, INPUTS)).shape == (2, 3, 5)
