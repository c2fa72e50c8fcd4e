"""The whole layer, on the CPU and by every path of kernels, against algo's, bit for bit."""

import copy

import numpy as np
import pytest
import torch

from algo.errors import LiftError
from algo.shipped import load_code
from algo.whitening import random_whitening
from gpu import linear_product
from gpu.dispatch import plan
from gpu.interpret import interpreter
from gpu.linear import LiftLinear
from gpu.tuning_table import Choice, Entry, LayerClass, Step, default_table
from tests.gpu.layers import layer
from tests.gpu.served import INPUTS, LINEAR, PARITIES, SEED, expected, inputs, made, same

ONE_BIT = [
    Choice(path="fused"),
    Choice(path="fused", tile="64x16x64x2x3"),
    Choice(path="bitmm"),
    Choice(path="bitmm", tile="64x8x128x2x3", split=2),
    Choice(path="bitmm", tile="32x32x32x2x2", split=3),
]
DECODED = [Choice(path="decode-dot"), Choice(path="dense")]


def cases():
    yield from ((LINEAR, "out", choice) for choice in ONE_BIT + DECODED)
    yield from (([LINEAR[0]] * 2, "in", choice) for choice in ONE_BIT + DECODED)
    yield from ((PARITIES, axis, choice) for axis in ("in", "out") for choice in DECODED)


@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize(("layers", "axis", "choice"), list(cases()), ids=str)
def test_every_path_equals_the_reference(layers, axis, choice, digits):
    print("seed", SEED)
    module, alone = made(layers, axis, digits)
    for tokens in (1, 5):
        x = inputs(tokens)
        with interpreter(checked=True) as run:
            got = module.by_kernels(run, x, choice)
        assert same(got, expected(alone, x)), (choice, tokens)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("layers", [LINEAR[:1], PARITIES[:1]], ids=str)
def test_the_cpu_module_equals_the_reference_in_every_type(layers, axis, dtype):
    for digits in (1, 2):
        module, alone = made(layers, axis, digits)
        x = inputs(3, dtype).reshape(1, 3, INPUTS)
        assert same(module(x), expected(alone, x))
        assert same(module.half()(x), expected(alone, x))  # nothing of it is rounded
        strided = torch.zeros(3, 2 * INPUTS, dtype=dtype)
        strided[:, ::2] = x[0]
        assert same(module(strided[:, ::2]), expected(alone, x[0]))


@pytest.mark.parametrize("layers", [LINEAR, PARITIES], ids=str)
def test_the_default_choice_and_no_tokens(layers):
    module, alone = made(layers, "out", 1)
    for tokens in (0, 1, 3, 17):
        with interpreter(checked=False) as run:
            got = module.by_kernels(run, inputs(tokens))
        assert same(got, expected(alone, inputs(tokens)))
        assert same(module(inputs(tokens)), expected(alone, inputs(tokens)))


def test_a_batch_does_not_show():
    module, _ = made(LINEAR, "out", 1)
    x = inputs(9)
    with interpreter(checked=False) as run:
        whole = module.by_kernels(run, x, ONE_BIT[0])
        alone = [module.by_kernels(run, x[i : i + 1], ONE_BIT[2]) for i in range(9)]
    assert same(whole, torch.cat(alone))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_token_that_is_not_finite_spoils_itself_alone(bad):
    module, alone = made(LINEAR, "out", 1)
    x = inputs(3)
    good = expected(alone, x)
    x[1, 5] = bad
    with interpreter(checked=False) as run, np.errstate(invalid="ignore"):
        outputs = [module(x), *(module.by_kernels(run, x, c) for c in ONE_BIT[:3:2] + DECODED)]
    for got in outputs:
        assert bool(got[1].isnan().all())
        assert same(got[[0, 2]], good[[0, 2]])


def test_a_broken_bit_tap_or_scale_shows():
    module, alone = made(LINEAR, "out", 1)
    x = inputs(2)
    want = expected(alone, x)
    for name, change in (("layer0_bits", 1), ("layer0_scales", 1 << 16), ("layer0_bias", 1 << 30)):
        broken = copy.deepcopy(module)
        getattr(broken, name).reshape(-1)[0] ^= change
        assert not same(broken(x), want), name
    assert same(module(x), want)
    with interpreter(checked=False) as run:
        assert same(module.by_kernels(run, x, Choice(path="bitmm")), want)
        for name, change in (("stack_words", 1), ("stack_taps", 1), ("stack_scales", 1 << 16)):
            broken = copy.deepcopy(module)
            getattr(broken, name).reshape(-1)[0] ^= change
            assert not same(broken.by_kernels(run, x, Choice(path="bitmm")), want), name


def test_weights_are_held_once():
    module, _ = made(LINEAR, "out", 1, bias=False)
    held = {name for name, b in module.named_buffers() if name.endswith(("words", "bits"))}
    assert held == {"layer0_bits", "layer1_bits", "layer2_bits"}
    with interpreter(checked=False) as run:
        module.by_kernels(run, inputs(1))
    rows = sum(int(b) for b in module.stack_segments[:, 1])
    assert module.stack_words.shape == (rows, -(-INPUTS // 128) * 4)
    held = {name for name, b in module.named_buffers() if name.endswith(("words", "bits"))}
    assert held == {"stack_words"}


def test_what_does_not_fit_is_refused():
    module, _ = made(LINEAR, "out", 1)
    rng = np.random.default_rng(SEED)
    matrix = layer(rng, load_code("LQ-2/1+6"), "out", (33, INPUTS))
    with pytest.raises(LiftError, match="digits=3 is neither 1"):
        LiftLinear([matrix], random_whitening(INPUTS, 0), 3)
    with pytest.raises(LiftError, match="at least one layer"):
        LiftLinear([], random_whitening(INPUTS, 0))
    with pytest.raises(LiftError, match="whitening of 78 inputs for layers of 77"):
        LiftLinear([matrix], random_whitening(78, 0))
    with pytest.raises(LiftError, match=r"shape \(1, 76\); the last dimension must be the 77"):
        module(torch.zeros(1, 76))
    with pytest.raises(LiftError, match=r"activations are torch\.float64"):
        module(torch.zeros(1, INPUTS, dtype=torch.float64))
    parities, _ = made(PARITIES, "out", 1)
    with interpreter(checked=False) as run:
        with pytest.raises(LiftError, match="fused does not decode, as codes with parities need"):
            parities.by_kernels(run, inputs(1), Choice(path="fused"))
        with pytest.raises(LiftError, match="there is no tile 3x3, only 64x8"):
            module.by_kernels(run, inputs(1), Choice(path="fused", tile="3x3"))


def test_many_tokens_are_split_without_a_trace(monkeypatch):
    module, alone = made(LINEAR, "out", 2)
    x = inputs(11)
    monkeypatch.setattr(linear_product, "MOST_TOKENS", 4)
    assert same(module(x), expected(alone, x))


def test_the_default_dtype_of_torch_does_not_matter():
    torch.set_default_dtype(torch.bfloat16)
    try:
        # an odd number of outputs: halves of words would not make whole ones
        modules = [made(layers[:1], "out", 1, bias=False) for layers in (LINEAR, PARITIES)]
    finally:
        torch.set_default_dtype(torch.float32)
    for module, alone in modules:
        assert same(module(inputs(2)), expected(alone, inputs(2)))


def test_buffers_that_are_replaced_are_the_ones_that_are_read():
    module, alone = made(LINEAR, "out", 1)
    choice = Choice(path="fused")
    with interpreter(checked=False) as run:
        module.by_kernels(run, inputs(2), choice)
        for name, buffer in module.named_buffers():  # as hooks that offload do
            module._buffers[name] = buffer.clone()
            buffer.fill_(0)
        assert same(module.by_kernels(run, inputs(2), choice), expected(alone, inputs(2)))


def test_on_the_cpu_too():
    module, alone = made(PARITIES, "out", 1)
    assert same(module(inputs(2)), expected(alone, inputs(2)))
    for name, buffer in module.named_buffers():
        module._buffers[name] = buffer.clone()
        buffer.fill_(0)
    assert same(module(inputs(2)), expected(alone, inputs(2)))
    module.layer0_scales.fill_(0)  # and one that is changed where it lies
    module.layer0_bias.fill_(0)
    assert not module(inputs(2))[:, :33].any()


def test_asking_for_a_gradient_is_refused():
    module, alone = made(LINEAR, "out", 1)
    x = inputs(2).requires_grad_()
    assert same(module(x).detach(), expected(alone, x.detach()))
    with pytest.raises(LiftError, match="quantised layers are for inference"):
        module(x).sum().backward()
    with torch.no_grad():
        assert not module(x).requires_grad
    assert not module(x.detach()).requires_grad


def test_other_devices_are_refused():
    module, _ = made(LINEAR, "out", 1)
    with pytest.raises(LiftError, match="there is no kernel for meta; use a CPU, CUDA or HIP"):
        module(torch.zeros(1, INPUTS, device="meta"))
    for shape in ((), (2, 0)):
        with pytest.raises(LiftError, match="the last dimension must be the 77 inputs"):
            module(torch.zeros(shape))


@pytest.mark.parametrize("layers", [LINEAR, PARITIES], ids=str)
def test_layers_that_do_not_go_together_are_refused(layers):
    rng = np.random.default_rng(SEED)
    whitening = random_whitening(INPUTS, 0)
    own = [layer(rng, load_code(name), "out", (rows, INPUTS)) for name, rows in layers]
    with pytest.raises(LiftError, match="layers of 77 and of 90 inputs cannot be one stack"):
        LiftLinear([*own, layer(rng, load_code("LQ-2/1+6"), "out", (30, 90))], whitening)
    with pytest.raises(LiftError, match="on axis out and on axis in cannot be one stack"):
        LiftLinear([*own, layer(rng, load_code("LQ-2/1+6"), "in", (30, INPUTS))], whitening)
    with pytest.raises(LiftError, match=f"1 biases for {len(own)} layers"):
        LiftLinear(own, whitening, 1, [None])
    integers = [torch.zeros(rows, dtype=torch.int32) for _, rows in layers]
    with pytest.raises(LiftError, match=r"bias is torch\.int32"):
        LiftLinear(own, whitening, 1, integers)


@pytest.mark.parametrize(
    ("layers", "axis", "columns"), [(LINEAR, "out", 2), (LINEAR[:1], "in", 4), (PARITIES, "in", 2)]
)
def test_the_plan_is_the_tables(layers, axis, columns):
    module, _ = made(layers, axis, 2)
    assert "bits, axis=" + axis in repr(module)
    layer_class = LayerClass(
        rows=sum(module.out_features),
        inner=INPUTS,
        bits=module.rate,
        axis=axis,
        digits=columns,
        parities=layers is PARITIES,
    )
    wanted = plan(layer_class, default_table())
    assert module._product._plan(torch.device("cpu")) == wanted
    assert module._product.planned(default_table()) == wanted


def test_a_table_that_is_given_is_used():
    module, alone = made(PARITIES[:1], "out", 1)
    steps = (Step(columns=1, choice=Choice(path="dense")),)
    layer_class = LayerClass(rows=1, inner=1, bits=2.4, axis="out", digits=1, parities=True)
    entry = Entry(layer=layer_class, steps=steps)
    table = default_table().model_copy(update={"entries": (entry,)})
    stored = module.stored()
    given = LiftLinear(stored.matrices, stored.whitening, 1, stored.biases, table)
    assert given._plan.choices == (Choice(path="dense"),)
    with interpreter(checked=False) as run:
        assert same(given.by_kernels(run, inputs(1)), expected(alone, inputs(1)))
