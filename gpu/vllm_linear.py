"""Quantised linear layers under vLLM: loading them, dividing them among ranks, running them.

Imported in an environment that has vLLM.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from vllm.distributed import tensor_model_parallel_all_gather
from vllm.model_executor.layers.linear import (
    LinearMethodBase,
    QKVParallelLinear,
    ReplicatedLinear,
    RowParallelLinear,
)
from vllm.model_executor.utils import set_weight_attrs

from algo.errors import LiftError
from algo.matrix import PackedMatrix, row_slice
from algo.serving_config import layer_parts
from gpu.linear import LiftLinear
from gpu.vllm_shards import Logical, Part, joined, parts_of

if TYPE_CHECKING:
    from gpu.vllm_config import LiftquantConfig

_TRANSFORM = ("pre", "turn_left", "turn_right")
_STORED = {"weight": torch.uint32} | dict.fromkeys(("scales", *_TRANSFORM), torch.bfloat16)
_QKV = {"q": 0, "k": 1, "v": 2}
_ABSENT = -0.0  # adding it changes no number, not even the sign of a zero


class LiftquantLinearMethod(LinearMethodBase):  # type: ignore[misc]
    """Runs one layer of vLLM, which may be several of the checkpoint, as one `LiftLinear`.

    Results do not depend on the number of ranks: each computes some of the outputs from all inputs.

    Args:
        config: of the model.
        members: names of the layers in the checkpoint, in the order vLLM fused them.
    """

    def __init__(self, config: "LiftquantConfig", members: list[str]) -> None:
        self._config = config
        self._members = members
        self._loaded: dict[str, torch.Tensor] = {}
        self._parts: list[Part] = []
        self._biased: set[str] = set()  # members whose bias has come

    def create_weights(
        self,
        layer: Any,
        input_size_per_partition: int,
        output_partition_sizes: list[int],
        input_size: int,
        output_size: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        """Parameters of the names that are stored, empty: their loaders keep what is loaded.

        Raises:
            LiftError: the layer has another shape than in the checkpoint.
        """
        shapes = [self._config.serving.layers[name].shape for name in self._members]
        for name, (_, columns) in zip(self._members, shapes, strict=True):
            if columns != input_size:
                raise LiftError(
                    f"layer {name} has {columns} inputs in the checkpoint and {input_size} in "
                    "vLLM; config.json is of another model"
                )
        logical = _logical(layer, output_partition_sizes)
        self._parts = parts_of(layer.prefix, [rows for rows, _ in shapes], logical)
        for leaf, dtype in _STORED.items():
            parameter = nn.Parameter(torch.empty(0, dtype=dtype), requires_grad=False)
            set_weight_attrs(parameter, {"weight_loader": self._loader(leaf)})
            layer.register_parameter(leaf, parameter)
        # vLLM makes the bias, after this, and has it loaded by what is found here
        layer.weight_loader = self._bias_loader(layer.weight_loader)
        self._config.unbuilt += 1

    def _loader(self, leaf: str) -> Any:
        def keep(_: nn.Parameter, tensor: torch.Tensor, shard: Any = None) -> None:
            name = f"{self._member(shard)}.{leaf}"
            kept = self._config.transforms if leaf in _TRANSFORM else self._loaded
            kept[name] = tensor

        return keep

    def _bias_loader(self, load: Any) -> Any:
        def note(parameter: nn.Parameter, tensor: torch.Tensor, *shard: Any) -> None:
            self._biased.add(self._member(*shard))
            load(parameter, tensor, *shard)

        return note

    def _member(self, shard: Any = None) -> str:
        """The layer that vLLM's shard id means: None, q, k or v, a part, or several in a row."""
        if shard is None:
            if len(self._members) > 1:
                raise LiftError(f"vLLM does not tell which of {self._members} a tensor belongs to")
            return self._members[0]
        first = shard[0] if isinstance(shard, tuple) else shard
        part = _QKV[first] if isinstance(first, str) else first
        return self._members[self._parts[part].member]

    def process_weights_after_loading(self, layer: Any) -> None:
        """Build the layer out of what was loaded, and let go of that.

        Raises:
            LiftError: a tensor has not come, or does not fit.
        """
        device = layer.weight.device
        for name in self._members:
            if layer.bias is not None and name not in self._biased:
                raise LiftError(
                    f"layer {name}: tensor {name}.bias is missing; copy the checkpoint again"
                )
        tensors = {**self._config.transforms, **self._loaded}
        stored = [layer_parts(self._config.serving, name, tensors) for name in self._members]
        whitening = stored[0][1]
        for name in self._members[1:]:
            self._check_shared(name)
        parts = joined(self._parts)
        matrices, rows = _held([stored[part.member][0] for part in parts], parts)
        biases = self._biases(layer, parts)
        lift = LiftLinear(matrices, whitening, self._config.digits, biases, rows=rows)
        for leaf in _STORED:
            delattr(layer, leaf)
        self._loaded.clear()
        self._config.unbuilt -= 1
        if not self._config.unbuilt:
            self._config.transforms.clear()
        layer.lift = lift.to(device)

    def _check_shared(self, name: str) -> None:
        layers = self._config.serving.layers
        first, other = layers[self._members[0]], layers[name]
        if (first.whitening, first.pre, first.turns) != (other.whitening, other.pre, other.turns):
            raise LiftError(
                f"vLLM runs {self._members[0]} and {name} as one layer, but they were quantised in "
                "different bases; quantise the model again"
            )

    def _biases(self, layer: Any, parts: list[Part]) -> list[torch.Tensor | None]:
        if layer.bias is None or layer.skip_bias_add:  # which vLLM adds itself
            return [None] * len(parts)
        bias = layer.bias.detach().cpu()
        if isinstance(layer, RowParallelLinear):  # of all outputs
            (part,) = parts
            return [bias[part.start : part.stop]]
        return list(bias.split([part.stop - part.start for part in parts]))

    def apply(self, layer: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """``(tokens, inputs)`` to ``(tokens, outputs)``; `bias` is in the layer already."""
        if not isinstance(layer, RowParallelLinear) or layer.tp_size == 1:
            out: torch.Tensor = layer.lift(x)
            return out
        (part,) = self._parts
        whole = layer.lift(tensor_model_parallel_all_gather(x))
        # vLLM sums over ranks
        rest = layer.output_size - part.stop
        return nn.functional.pad(whole, (part.start, rest), value=_ABSENT)


def _logical(layer: Any, sizes: list[int]) -> list[Logical]:
    """The layer's parts and this rank's share of each, as vLLM divides it."""
    rank, ranks = layer.tp_rank, layer.tp_size
    if isinstance(layer, ReplicatedLinear):
        return [Logical(size) for size in sizes]
    if isinstance(layer, RowParallelLinear):
        return [Logical(size, rank, ranks) for size in sizes]
    held = [ranks] * len(sizes)
    if isinstance(layer, QKVParallelLinear):
        held[1:3] = [ranks // layer.num_kv_head_replicas] * 2
    return [
        Logical(size * shares, rank * shares // ranks, shares)
        for size, shares in zip(sizes, held, strict=True)
    ]


def _held(
    matrices: list[PackedMatrix], parts: list[Part]
) -> tuple[list[PackedMatrix], list[slice] | None]:
    """Matrices of the parts' rows, and where in them these are; None where they are all."""
    if all(
        (part.start, part.stop) == (0, m.shape[0]) for m, part in zip(matrices, parts, strict=True)
    ):
        return matrices, None
    smaller = [row_slice(m, part.start, part.stop) for m, part in zip(matrices, parts, strict=True)]
    rows = [
        slice(at, at + part.stop - part.start) for (_, at), part in zip(smaller, parts, strict=True)
    ]
    return [matrix for matrix, _ in smaller], rows
