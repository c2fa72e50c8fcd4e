"""`LiftLinear` in graphs: the operator, torch.compile, torch.export, another process."""

import copy
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from algo.errors import LiftError
from gpu.linear_op import linear
from tests.gpu.served import INPUTS, LINEAR, PARITIES, expected, inputs, made, same

TYPES = [torch.float32, torch.float16, torch.bfloat16]
Dim = torch.export.Dim


def arguments(module, x):
    return x, [getattr(module, name) for name in module._held], module._spec


class Small(nn.Module):
    """Several quantised layers and what is around them in a model."""

    def __init__(self):
        super().__init__()
        self.qkv, _ = made(LINEAR, "out", 1)
        self.gate, _ = made(PARITIES, "in", 2)
        self.after = nn.Linear(33, INPUTS)
        self.last, _ = made(LINEAR[:1], "in", 1)

    def forward(self, x):
        y = self.qkv(x)[..., :33] * torch.sigmoid(self.gate(x)[..., :33])
        return self.last(torch.tanh(self.after(y.float())).to(x.dtype)) + 1


@pytest.mark.parametrize("layers", [LINEAR, PARITIES], ids=str)
def test_the_operator_passes_opcheck(layers):
    module, alone = made(layers, "out", 1)
    x = inputs(2, torch.bfloat16).reshape(2, 1, INPUTS)
    torch.library.opcheck(torch.ops.liftquant.linear.default, arguments(module, x))
    for given in (x, inputs(3), inputs(0)):
        assert same(linear(*arguments(module, given)), expected(alone, given))


@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize(
    ("layers", "axis"), [(LINEAR, "out"), (LINEAR[:1], "in"), (PARITIES, "in")]
)
def test_compiled_it_is_one_operator_and_the_same_bits(layers, axis, digits):
    module, alone = made(layers, axis, digits)
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    compiled = torch.compile(module, backend=backend, fullgraph=True, dynamic=True)
    for tokens in (2, 3, 17):
        assert same(compiled(inputs(tokens)), expected(alone, inputs(tokens)))
    (graph,) = graphs
    called = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert called == [torch.ops.liftquant.linear.default]


def test_one_compilation_of_a_small_model_serves_every_number_of_tokens():
    model = Small()
    torch.compiler.reset()
    for dtype in TYPES:
        compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
        compiled(inputs(3, dtype))
        with torch.compiler.set_stance("fail_on_recompile"):
            for tokens in (2, 5, 33):
                x = inputs(tokens, dtype)
                assert same(compiled(x), model(x))


def test_inductor_gives_the_same_bits():
    module, alone = made(LINEAR[:2], "out", 1)
    torch.compiler.reset()
    with warnings.catch_warnings():
        # torch's own, while it imports its compiler
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        compiled = torch.compile(lambda x: module(x * 2), fullgraph=True, dynamic=True)
        for tokens in (3, 7):
            assert same(compiled(inputs(tokens)), expected(alone, inputs(tokens) * 2))


@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_model_gives_the_same_bits_for_any_batch(strict):
    model = Small()
    exported = torch.export.export(
        model, (inputs(3),), dynamic_shapes=({0: Dim("tokens", max=4096)},), strict=strict
    )
    for tokens in (2, 11):
        assert same(exported.module()(inputs(tokens)), model(inputs(tokens)))
    # what casts its floating-point tensors casts none of a layer's
    alone = torch.export.export(model.gate, (inputs(3),), strict=strict).module()
    assert same(alone.half()(inputs(3)), model.gate(inputs(3)))


def test_another_process_needs_the_operator_alone_and_no_triton(tmp_path):
    model = Small()
    exported = torch.export.export(model, (inputs(3),), dynamic_shapes=({0: Dim("tokens")},))
    torch.export.save(exported, tmp_path / "model.pt2")
    x = inputs(5)
    torch.save({"x": x, "y": model(x)}, tmp_path / "tensors.pt")
    held = [getattr(model.qkv, name) for name in model.qkv._held]
    torch.save([*held, model.qkv(x)], tmp_path / "layer.pt")
    (tmp_path / "spec.json").write_text(model.qkv._spec)
    code = f"""
import sys, torch, gpu.ops
from pathlib import Path
folder = Path({str(tmp_path)!r})
torch.set_num_threads(1)
tensors = torch.load(folder / "tensors.pt", weights_only=True)
x, same = tensors["x"], lambda a, b: torch.equal(a.view(torch.int32), b.view(torch.int32))
*held, y = torch.load(folder / "layer.pt", weights_only=True)
assert same(torch.ops.liftquant.linear(x, held, (folder / "spec.json").read_text()), y)
assert not {{"triton", "torch._dynamo"}} & set(sys.modules)
program = torch.export.load(folder / "model.pt2")
assert same(program.module()(x), tensors["y"])
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_copies_of_a_layer_are_compiled_with_their_own_weights():
    module, alone = made(LINEAR[:1], "out", 1, bias=False)
    other = copy.deepcopy(module)
    other.layer0_scales.fill_(0)
    torch.compiler.reset()
    compiled = torch.compile(lambda x: (module(x), other(x)), fullgraph=True, backend="aot_eager")
    first, second = compiled(inputs(2))
    assert same(first, expected(alone, inputs(2)))
    assert not second.any()


def test_no_gradient_passes_through_a_graph():
    module, _ = made(LINEAR[:1], "out", 1)
    torch.compiler.reset()
    x = inputs(2).requires_grad_()
    compiled = torch.compile(lambda x: module(x) + x[:, :33], fullgraph=True, backend="aot_eager")
    compiled(x).sum().backward()
    assert x.grad.sum() == 2 * 33
    assert not linear(*arguments(module, x)).requires_grad


def test_fake_tensors_go_to_the_operator():
    module, alone = made(LINEAR, "out", 1)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        out = module(mode.from_tensor(inputs(3, torch.float16).reshape(3, 1, INPUTS)))
    assert (out.shape, out.dtype) == ((3, 1, 100), torch.float16)
    assert same(module(nn.Parameter(inputs(3))).detach(), expected(alone, inputs(3)))


def test_recorded_with_plain_tensors_it_is_the_operator():
    module, alone = made(LINEAR, "out", 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        traced = torch.jit.trace(module, inputs(3))
    for recorded in (traced, make_fx(module)(inputs(3))):
        assert "liftquant.linear" in recorded.code.replace("::", ".")
        assert same(recorded(inputs(3) + 1), expected(alone, inputs(3) + 1))


def test_kernels_of_a_gpu_have_the_same_fake():
    module, _ = made(LINEAR, "out", 1)
    module._lay_out("kernels")
    x, held, spec = arguments(module, inputs(3))
    meta = [tensor.to("meta") for tensor in held]
    assert linear(x.to("meta"), meta, spec).shape == (3, 100)
    with pytest.raises(LiftError, match="laid out for kernels was called on cpu"):
        linear(x, held, spec)


def test_what_does_not_fit_is_refused():
    module, _ = made(LINEAR[:1], "out", 1)
    x, held, spec = arguments(module, inputs(3))
    with pytest.raises(LiftError, match=r"tensors are .*, int32 \(34,\); its spec has"):
        linear(x, [*held[:-1], torch.zeros(34, dtype=torch.int32)], spec)
    with pytest.raises(LiftError, match=r"its spec has int32 \(7, 7\)"):
        linear(x, held[:-1], spec)
    with pytest.raises(LiftError, match=r"tensors are float32 \(7, 7\)"):
        linear(x, [held[0].view(torch.float32), *held[1:]], spec)
    with pytest.raises(LiftError, match="weights on meta; move them to one device"):
        module._product.check_held([tensor.to("meta") for tensor in held], x.device)
    with pytest.raises(LiftError, match=r"activations are torch\.float64"):
        linear(x.double(), held, spec)
    with pytest.raises(LiftError, match="the last dimension must be the 77 inputs"):
        linear(x[:, 1:], held, spec)
    with pytest.raises(LiftError, match="the spec of liftquant::linear is damaged"):
        linear(x, held, spec[:-1])
    torch.compiler.reset()
    with pytest.raises(Exception, match="the last dimension must be the 77 inputs"):
        torch.compile(module, fullgraph=True, backend="aot_eager")(x[:, 1:])
