"""A GPU made up of torch on the CPU: layers, a clock, and other packages' kernels."""

import sys
from types import ModuleType, SimpleNamespace

import torch

from algo.activations import quantise_activations
from gpu.dispatch import layer_class
from gpu.exact_layer import exact_layer
from gpu.planes import Digits
from gpu.tuning_table import Choice, Machine, Timed
from gpu.workload import Preparation

MACHINE = Machine(
    gpu="Made up 9000", capability="9.9", driver="1.2", torch="2.13.0", triton="3.9.0"
)
FUSED, DOT, DENSE = Choice(path="fused"), Choice(path="decode-dot"), Choice(path="dense")


class FakePaths:
    """A layer with three paths, of which some are wrong or cannot run."""

    wrong: tuple[Choice, ...] = ()
    broken: tuple[Choice, ...] = ()
    off = 0  # of the sums of digits

    def __init__(self, matrix, digits, device=None, run=None):
        self.matrix, self.digits, self.device = matrix, digits, torch.device("cpu")
        self.layer = layer_class(*matrix.shape, matrix.code, matrix.axis, digits)

    def candidates(self, columns):
        return [FUSED, DOT, DENSE]

    def preparation(self, choice, x):
        parts, step = quantise_activations(x, self.digits)
        right = Digits(parts, parts.sum(-1, dtype=torch.int32), step, self.digits)
        return Preparation(lambda: right._replace(sums=right.sums + self.off), lambda: right)

    def product(self, choice, digits, step):
        def run():
            if choice in self.broken:
                raise RuntimeError("too much shared memory\nfurther lines")
            y = exact_layer(self.matrix, digits, step)
            if choice in self.wrong:
                y[-1, -1] += 2**-20
            return y

        return run


def timer(call):
    """Every call takes ten microseconds."""
    call()
    return Timed(median=10.0, p20=9.0, p80=12.0)


def dequantised(codes, scales, zeros, group):
    rows, columns = codes.shape
    parts = codes.float().reshape(rows, columns // group, group)
    return ((parts - zeros.float()[..., None]) * scales.float()[..., None]).reshape(rows, columns)


class _GemLite(torch.nn.Module):
    def __init__(self, bits, group_size, in_features, out_features, input_dtype, output_dtype,
                 scaled_activations):  # fmt: skip
        super().__init__()
        self.shape, self.group = (out_features, in_features), group_size
        assert input_dtype == output_dtype == "fp16"
        assert not scaled_activations

    def pack(self, codes, scales, zeros, bias):
        assert codes.dtype == torch.uint8
        groups = (self.shape[0], -1)
        self.weights = dequantised(
            codes.reshape(self.shape), scales.reshape(groups), zeros.reshape(groups), self.group
        )

    def forward(self, x):
        return (x.float() @ self.weights.T).half()


class _BitBlas:
    def __init__(self, config):
        self.config = config

    def transform_weight(self, codes):
        assert codes.dtype == torch.int8
        return codes

    def __call__(self, x, codes, scale, zeros):
        weights = dequantised(codes, scale, zeros, self.config.group_size)
        return (x.float() @ weights.T).half()


def _quantize(linear, config):
    assert linear.weight.dtype == torch.bfloat16
    assert config.int4_packing_format == "tile_packed_to_4d"


def _marlin_quantize(w, kind, group, act_order):
    columns, rows = w.shape
    parts = w.float().reshape(columns // group, group, rows)
    scales = parts.abs().amax(1) / 7
    codes = torch.round(parts / scales[:, None]).clamp(-8, 7)
    reference = (codes * scales[:, None]).reshape(columns, rows)
    return reference, reference, scales, None, None, None


def _marlin(input, weight, output_size_per_partition, input_size_per_partition, **rest):
    assert weight.shape == (input_size_per_partition, output_size_per_partition)
    assert rest["is_k_full"]
    return (input.float() @ weight).half()


def stub(name, **values):
    module = ModuleType(name)
    module.__dict__.update(values)
    return module


def install(monkeypatch, *peers):
    """Put stand-ins that follow the packages' documentation where imports find them."""
    utilities = "vllm.model_executor.layers.quantization.utils"
    kind = SimpleNamespace(uint4b8="uint4b8")
    modules = {
        "gemlite": {
            "gemlite.core": stub(
                "gemlite.core", DType=SimpleNamespace(FP16="fp16"), GemLiteLinear=_GemLite
            )
        },
        "torchao": {
            "torchao.quantization": stub(
                "torchao.quantization", Int4WeightOnlyConfig=SimpleNamespace, quantize_=_quantize
            )
        },
        "bitblas": {"bitblas": stub("bitblas", MatmulConfig=SimpleNamespace, Matmul=_BitBlas)},
        "marlin": {
            f"{utilities}.marlin_utils": stub(
                "m", apply_gptq_marlin_linear=_marlin,
                marlin_make_empty_g_idx=lambda device: torch.empty(0),
                marlin_make_workspace_new=lambda device: torch.zeros(1),
            ),
            f"{utilities}.marlin_utils_test": stub("t", marlin_quantize=_marlin_quantize),
            "vllm.scalar_type": stub("s", scalar_types=kind),
        },
    }  # fmt: skip
    for peer in peers:
        for name, module in modules[peer].items():
            monkeypatch.setitem(sys.modules, name, module)
            parts = name.split(".")
            for depth in range(1, len(parts)):  # imports of a submodule import what it lies in
                above = ".".join(parts[:depth])
                if above not in sys.modules:
                    monkeypatch.setitem(sys.modules, above, stub(above, __path__=[]))
    monkeypatch.setattr("liftquant.gpu_peer.installed", lambda peer: peer in peers)


def pretend(monkeypatch, paths=FakePaths):
    """Make the commands believe in this GPU."""
    monkeypatch.setattr("gpu.machine.present_gpu", lambda: MACHINE)
    monkeypatch.setattr("gpu.machine.gpu_device", lambda: torch.device("cpu"))
    monkeypatch.setattr("gpu.machine.smi", lambda field: None)
    monkeypatch.setattr("gpu.timing.gpu_timer", lambda: timer)
    monkeypatch.setattr("gpu.timing.copy_bandwidth", lambda *_: 1e12)
    monkeypatch.setattr("gpu.paths.PathLayer", paths)
