"""Quantised linear layers that read one input, as one module that keeps its weights packed."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from algo.activations import Digits as DigitCount
from algo.errors import LiftError
from algo.matrix import PackedMatrix
from algo.whitening import Whitening
from gpu.products import OneBitProduct
from gpu.stack import Segment, Stack, check_layers
from gpu.tables import CodeTables
from gpu.tuning_table import ONE_BIT, Choice, TuningTable
from gpu.weights import PackedWeights

if TYPE_CHECKING:  # which would import triton
    from gpu.dispatch import Plan
    from gpu.interpret import Run


MOST_TOKENS = 4096  # of a launch


class LiftLinear(nn.Module):
    """``y = [W1 x + b1, W2 x + b2, ...]``: q, k and v, or gate and up, or a single layer.

    Integers throughout: activations are whitened in one fixed order of operations, quantised per
    token to int8 digits, multiplied exactly and scaled with one rounding to float32; the bias is
    added in float32. The result is that of `algo.layer.ReferenceLinear` with digits, bit for bit,
    on every device and by every path, whatever the batch. On CUDA and HIP devices the kernels run
    (compiled offline and run under the interpreter; not run on a GPU), on the CPU plain torch.

    It differs from that layer in two things: float64 is refused, and a token that holds NaN or
    infinity gives NaN instead of an error. No gradient is taken. torch.compile calls it as it is.

    Weights are held once: as the one-bit matrix where all codes are linear, as streams where one
    has parities. Paths that decode the former lay out a layer's streams for the moment. They are
    buffers that move with the module and keep their types under ``.half()`` and ``.to(dtype)``,
    and no part of its ``state_dict``: the checkpoint holds them.

    Args:
        matrices: packed weights of layers with one input, in the order of their outputs.
        whitening: the basis all of them are in.
        digits: 1 (a8) or 2 (a15) int8 digits per activation.
        biases: ``(rows,)`` or None for each layer.
        table: tuning table; by default the user's for the GPU, or the estimates that ship.

    Raises:
        LiftError: the layers cannot be one stack, integers could overflow, or the whitening is of
            another size.
    """

    def __init__(
        self,
        matrices: Sequence[PackedMatrix],
        whitening: Whitening,
        digits: DigitCount = 1,
        biases: Sequence[torch.Tensor | None] | None = None,
        table: TuningTable | None = None,
    ) -> None:
        super().__init__()
        if digits not in (1, 2):
            raise LiftError(f"digits={digits} is neither 1 (a8) nor 2 (a15)")
        check_layers(matrices, biases)
        self.digits: DigitCount = digits
        self.out_features = tuple(m.shape[0] for m in matrices)
        self.in_features = matrices[0].shape[1]
        if whitening.size != self.in_features:
            raise LiftError(
                f"a whitening of {whitening.size} inputs for layers of {self.in_features}; give "
                "the one the layers were quantised in"
            )
        self._table = table
        self._rates = [m.code.rate for m in matrices]
        self._hold(matrices, whitening, biases)
        self._one_bit = OneBitProduct()
        self._segments: list[Segment] | None = None
        self._plans: dict[torch.device, Plan] = {}

    def _hold(
        self,
        matrices: Sequence[PackedMatrix],
        whitening: Whitening,
        biases: Sequence[torch.Tensor | None] | None,
    ) -> None:
        from gpu.lift import lift_tables
        from gpu.stack import stack_layers
        from gpu.tables import code_tables
        from gpu.weights import packed_weights
        from gpu.whiten import whitening_tensors

        self._parts: dict[str, Any] = {"whitening": whitening_tensors(whitening)}
        linear = not any(m.code.parities for m in matrices)
        if linear:
            self._parts["stack"] = stack_layers(matrices, self.digits, biases)
            if matrices[0].axis == "in":
                self._parts["lift"] = lift_tables(matrices[0].code, self.in_features)
        given = [None] * len(matrices) if biases is None else list(biases)
        for i, (matrix, bias) in enumerate(zip(matrices, given, strict=True)):
            if linear:
                self._parts[f"code{i}"] = code_tables(matrix.code)
            else:
                self._parts[f"layer{i}"] = packed_weights(matrix, bias)
        self.axis = matrices[0].axis
        for name, part in self._parts.items():
            self._parts[name] = _registered(self, name, part)

    # traced into, kernels would lose the option that keeps their floating point as it is written
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(..., inputs)`` to ``(..., all outputs)`` in the dtype of `x`.

        Args:
            x: float32, float16 or bfloat16 on the module's device. On the CPU an activation that is
                NaN or infinite makes its token's outputs NaN, as it does in the kernels.

        Raises:
            LiftError: the shape, dtype or device does not fit.
        """
        if x.device.type not in ("cpu", "cuda"):  # HIP devices call themselves cuda, too
            raise LiftError(f"there is no kernel for {x.device}; use a CPU, CUDA or HIP device")
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise LiftError(
                f"activations have shape {tuple(x.shape)}; the last dimension must be the "
                f"{self.in_features} inputs"
            )
        flat = x.detach().reshape(-1, self.in_features)
        out = x.new_empty((len(flat), sum(self.out_features)), requires_grad=False)
        # temporaries grow with the tokens of a call, results do not depend on how they are split
        for part in range(0, max(1, len(flat)), MOST_TOKENS):
            tokens = slice(part, part + MOST_TOKENS)
            if x.device.type == "cpu":
                out[tokens] = self._plainly(flat[tokens])
            else:
                from gpu.interpret import as_is

                out[tokens] = self.by_kernels(as_is, flat[tokens])
        return out.reshape(*x.shape[:-1], sum(self.out_features))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def by_kernels(self, run: "Run", x: torch.Tensor, choice: Choice | None = None) -> torch.Tensor:
        """``(tokens, inputs)`` to ``(tokens, all outputs)`` by kernels, whatever the device.

        Args:
            run: `gpu.interpret.as_is` on a GPU, or an interpreter's.
            x: activations, not whitened.
            choice: path, tile and split; by default what the tuning table says.
        """
        with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
            return self._launched(run, x, choice)

    def _launched(self, run: "Run", x: torch.Tensor, choice: Choice | None) -> torch.Tensor:
        from gpu.prepare import large_blocks, prepare
        from gpu.products import chosen_tile, decoded_product
        from gpu.tiles import NARROW

        stack: Stack | None = self._part("stack")
        per_token = self.digits if stack is None else stack.bounds.per_token
        columns = max(1, len(x) * per_token)
        if choice is None:
            choice = self._plan(x.device).choose(columns)
        whitening, lift = self._part("whitening"), self._part("lift")
        blocks = large_blocks(len(x), self.in_features) if len(x) and x.is_cpu else None
        if stack is not None and choice.path in ONE_BIT:
            tile = chosen_tile(choice, x.device, columns)
            ready = prepare(run, x, whitening, self.digits, lift, tile, blocks)
            return self._one_bit(run, stack, ready, choice, tile, x.dtype)
        ready = prepare(run, x, whitening, self.digits, None, NARROW, blocks)
        return decoded_product(run, self._layers(run, stack), ready, choice, x.dtype)

    def _plainly(self, x: torch.Tensor) -> torch.Tensor:
        from gpu.plain_layer import stack_outputs, weights_outputs
        from gpu.prepare import prepare_plainly
        from gpu.tiles import NARROW

        stack: Stack | None = self._part("stack")
        whitening = self._part("whitening")
        ready = prepare_plainly(x, whitening, self.digits, self._part("lift"), NARROW)
        if stack is not None:
            return stack_outputs(stack, ready, x.dtype)
        layers = [self._part(f"layer{i}") for i in range(len(self.out_features))]
        return torch.cat([weights_outputs(layer, ready, x.dtype) for layer in layers], dim=1)

    def _layers(self, run: "Run", stack: Stack | None) -> Iterator[PackedWeights]:
        """The layers as streams: those that are held, or each laid out for the moment."""
        from gpu.streams import segment_weights

        for i in range(len(self.out_features)):
            if stack is None:
                yield self._part(f"layer{i}")
                continue
            if self._segments is None:
                self._segments = stack.rows()
            codes: CodeTables = self._part(f"code{i}")
            yield segment_weights(run, stack, self._segments[i], codes, self.in_features)

    def _plan(self, device: torch.device) -> "Plan":
        if device not in self._plans:
            from gpu.dispatch import plan, table_at_hand
            from gpu.tuning_table import LayerClass

            stack: Stack | None = self._part("stack")
            layer = LayerClass.model_validate(
                {
                    "rows": sum(self.out_features),
                    "inner": self.in_features,
                    "bits": self.rate,
                    "axis": self.axis,
                    "digits": self.digits if stack is None else stack.bounds.per_token,
                    "parities": stack is None,
                }
            )
            table = table_at_hand(device) if self._table is None else self._table
            self._plans[device] = plan(layer, table)
        return self._plans[device]

    @property
    def rate(self) -> float:
        """Bits per weight, D/d, over all layers."""
        pairs = zip(self._rates, self.out_features, strict=True)
        return sum(rate * rows for rate, rows in pairs) / sum(self.out_features)

    def _part(self, name: str) -> Any:
        """A part with its tensors as they are now: buffers move, their types stay."""
        part = self._parts.get(name)
        if part is None:
            return None
        return _rebuilt(self, name, part)

    def extra_repr(self) -> str:
        outputs = " + ".join(map(str, self.out_features))
        return f"{self.in_features}, {outputs}, {self.rate:g} bits, axis={self.axis}"


def _registered(module: nn.Module, name: str, part: Any) -> Any:
    """`part` with its tensors moved to buffers, an empty one of its dtype in the place of each.

    Buffers are integers, which ``.half()`` and its like leave alone.
    """
    left: dict[str, Any] = {}
    for field, value in part._asdict().items():
        if isinstance(value, torch.Tensor):
            kept = value.view(torch.int32) if value.is_floating_point() else value
            module.register_buffer(f"{name}_{field}", kept, persistent=False)
            left[field] = value.new_empty(0)
        elif hasattr(value, "_asdict"):
            left[field] = _registered(module, f"{name}_{field}", value)
    return part._replace(**left)


def _rebuilt(module: nn.Module, name: str, part: Any) -> Any:
    fields = {}
    for field, value in part._asdict().items():
        if isinstance(value, torch.Tensor):
            kept = getattr(module, f"{name}_{field}")
            fields[field] = kept.view(value.dtype) if value.is_floating_point() else kept
        elif hasattr(value, "_asdict"):
            fields[field] = _rebuilt(module, f"{name}_{field}", value)
    return part._replace(**fields)
