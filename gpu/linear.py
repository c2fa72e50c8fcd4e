"""Quantised linear layers that read one input, as one module that keeps its weights packed."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from algo.activations import Digits as DigitCount
from algo.errors import LiftError
from algo.matrix import PackedMatrix
from algo.whitening import Whitening
from gpu.inference_only import inference_only
from gpu.linear_layout import (
    check_integers,
    form_of,
    laid_out,
    stored_biases,
    stored_matrices,
    stored_whitening,
)
from gpu.linear_op import check_device, linear
from gpu.linear_product import PartsInPlace, product_of
from gpu.linear_spec import Form, LinearSpec, linear_spec
from gpu.linear_state import SIDES, Stored, blank, from_state, state_of, state_shapes
from gpu.stack import check_layers
from gpu.tensor_tree import taken_apart
from gpu.tuning_table import Choice, TuningTable

if TYPE_CHECKING:  # which would import triton
    from gpu.interpret import Run


def _traced() -> bool:
    """Whether someone records what is done to tensors, and has to see the operator."""
    return (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()  # of torch.jit
        or torch._C._len_torch_dispatch_stack() > 0
    )


class LiftLinear(nn.Module):
    """``y = [W1 x + b1, W2 x + b2, ...]``: q, k and v, or gate and up, or a single layer.

    Integers throughout: activations are whitened in one fixed order of operations, quantised per
    token to int8 digits, multiplied exactly and scaled with one rounding to float32; the bias is
    added in float32. The result is that of `algo.layer.ReferenceLinear` with digits, bit for bit,
    on every device and by every path, whatever the batch. On the CPU the kernels of `gpu.cpu` run,
    on CUDA and HIP devices the Triton kernels (compiled offline and run under the interpreter; not
    run on a GPU).

    It differs from that layer in two things: float64 is refused, and a token that holds NaN or
    infinity gives NaN instead of an error. No gradient is taken. Under autocast, too, the output
    has the dtype of x. ``torch.set_flush_denormal(True)`` is not supported: what denormal
    activations give may then differ.

    torch.compile and torch.export see one operator, ``liftquant::linear``. A program that was
    exported runs on devices of the type it was exported on, after ``import gpu.linear_op``.

    Weights are held once, as the kernels of their device read them, in buffers of integers that
    ``.half()`` and ``.to(dtype)`` leave alone; ``.to(device)`` lays them out anew where the device
    wants them otherwise. The ``state_dict`` has them as they are stored, see `gpu.linear_state`,
    which is made anew at every call.

    Args:
        matrices: packed weights of layers with one input, in the order of their outputs.
        whitening: the basis all of them are in.
        digits: 1 (a8) or 2 (a15) int8 digits per activation.
        biases: ``(outputs,)`` or None for each layer.
        table: tuning table; by default the user's for the GPU, or the estimates that ship.
        rows: which rows of each matrix are its outputs; by default all. For matrices that
            `algo.matrix.row_slice` made.

    Attributes:
        in_features: inputs.
        out_features: outputs of each matrix.

    Raises:
        LiftError: the layers cannot be run side by side, integers could overflow, or biases, rows
            or the whitening do not fit.
    """

    def __init__(
        self,
        matrices: Sequence[PackedMatrix],
        whitening: Whitening,
        digits: DigitCount = 1,
        biases: Sequence[torch.Tensor | None] | None = None,
        table: TuningTable | None = None,
        rows: Sequence[slice | range] | None = None,
    ) -> None:
        super().__init__()
        check_layers(matrices, None)
        given: list[torch.Tensor | None] = [None] * len(matrices)
        given = given if biases is None else list(biases)
        if len(given) != len(matrices):
            raise LiftError(
                f"{len(given)} biases for {len(matrices)} layers; give one, or None, each"
            )
        form = form_of("cpu")
        assert form is not None
        spec = linear_spec(matrices, whitening, digits, rows, form)
        check_integers(spec)
        self.in_features = spec.inputs
        self.out_features = spec.outputs
        self._biased = [bias is not None for bias in given]
        self._held: tuple[str, ...] = ()
        self._hold(spec, Stored(list(matrices), whitening, given))
        self._plan = None if table is None else self._product.planned(table)

    def _hold(self, spec: LinearSpec, stored: Stored) -> None:
        """Lay a layer out by `spec`, on the CPU, in the place of what is held."""
        with torch.device("cpu"):
            _, held = taken_apart(laid_out(spec, *stored))
            turns = stored.whitening.turns
            for name in self._own():
                delattr(self, name)
            for name, tensor in held.items():
                self.register_buffer(name, tensor, persistent=False)
            for side, turn in zip(SIDES, turns or (), strict=False):
                held_turn = turn.cpu().clone().view(torch.int16)
                self.register_buffer(f"turn_{side}", held_turn, persistent=False)
        self._held = tuple(held)
        self._turned = turns is not None
        self._spec = spec.as_json()
        self._product = product_of(self._spec)
        self._in_place = PartsInPlace(self._product)

    def _own(self) -> list[str]:
        """Names of the buffers that hold the layer; a module may be given others."""
        names = (*self._held, *(f"turn_{side}" for side in SIDES))
        return [name for name in names if name in self._buffers]

    @property
    def form(self) -> Form:
        """For what the weights are laid out: the CPU's kernels, or those of a GPU."""
        return self._product.spec.form

    @property
    def digits(self) -> DigitCount:
        """int8 digits per activation."""
        return self._product.spec.digits

    @property
    def rate(self) -> float:
        """Bits per weight, D/d, over all layers."""
        return self._product.spec.rate

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        weights: torch.Tensor = self._buffers[self._held[0]]  # type: ignore[assignment]
        return weights.device

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(..., inputs)`` to ``(..., all outputs)`` in the dtype of `x`.

        Args:
            x: float32, float16 or bfloat16 on the module's device.

        Raises:
            LiftError: the shape, dtype or device does not fit. Asking the output for a gradient
                raises one, too, except in a compiled graph.
        """
        if _traced() or type(x) not in (torch.Tensor, nn.Parameter):
            return linear(x, [getattr(self, name) for name in self._held], self._spec)
        # an operator in Python costs tens of microseconds
        check_device(x.device)
        self._product.check(x)
        if x.device != self.device:
            raise LiftError(
                f"activations are on {x.device} and weights on {self.device}; move them to one "
                "device"
            )
        self._lay_out("cpu" if x.is_cpu else "kernels")
        buffers = self._buffers
        held = [buffers[name] for name in self._held]
        # a GPU's are not kept: hooks may move them away between calls, to free its memory
        parts = (self._in_place if x.is_cpu else self._product.parts)(held)  # type: ignore[arg-type]
        out = self._product(x.detach() if x.requires_grad else x, parts, self._plan)
        return inference_only(x, out)

    def by_kernels(self, run: "Run", x: torch.Tensor, choice: Choice | None = None) -> torch.Tensor:
        """``(tokens, inputs)`` to ``(tokens, all outputs)`` by a GPU's kernels, on any device.

        The weights are laid out for these kernels first, where they are not.

        Args:
            run: `gpu.interpret.as_is` on a GPU, or an interpreter's.
            x: activations, not whitened.
            choice: path, tile and split; by default what the tuning table says.
        """
        self._lay_out("kernels")
        return self._product.by_kernels(run, x, self._parts(), choice, self._plan)

    def matrices(self) -> list[PackedMatrix]:
        """The matrices that the layer was made of, bit for bit, on the CPU."""
        return self.stored().matrices

    def stored(self) -> Stored:
        """All that the layer was made of, bit for bit, on the CPU.

        Raises:
            LiftError: the weights are on the device meta, which holds none.
        """
        if self.device.type == "meta":
            raise LiftError("the weights are on the device meta, which holds none; load them first")
        spec, parts = self._product.spec, self._parts()
        biases = zip(stored_biases(spec, parts), self._biased, strict=True)
        turns = None
        if self._turned:
            left, right = (getattr(self, f"turn_{side}").cpu() for side in SIDES)
            turns = left.view(torch.bfloat16), right.view(torch.bfloat16)
        return Stored(
            stored_matrices(spec, parts),
            stored_whitening(parts, turns),
            [bias if biased else None for bias, biased in biases],
        )

    def _parts(self) -> dict[str, Any]:
        """The tensors in their places, as they are now: buffers move and are replaced."""
        buffers = self._buffers
        return self._product.parts([buffers[name] for name in self._held])  # type: ignore[misc]

    def _lay_out(self, form: Form) -> None:
        """Lay the weights out in another form, on the device they are on."""
        if form == self.form:
            return
        device = self.device
        self._hold(self._product.spec.laid_out_for(form), self.stored())
        self._move(device)

    def _move(self, device: torch.device) -> None:
        for name in self._own():
            self._buffers[name] = getattr(self, name).to(device)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        device = self.device
        after = fn(torch.zeros(1, dtype=torch.int32, device=device)).device
        form = form_of(after.type) or self.form
        spec = self._product.spec
        if device.type == "meta" and after.type != "meta":  # to_empty: nothing is there to be moved
            self._hold(spec.laid_out_for(form), blank(spec, self._biased, self._turned))
        elif form != self.form:
            self._hold(spec.laid_out_for(form), self.stored())

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            result = fn(tensor)  # which may cast integers, too
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        self._in_place = PartsInPlace(self._product)
        return super()._apply(moved, recurse)  # type: ignore[no-untyped-call]

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        if self.device.type == "meta":
            shapes = state_shapes(self._product.spec, self._biased, self._turned).items()
            state = {n: torch.empty(s, dtype=d, device="meta") for n, (s, d) in shapes}
        else:
            state = {n: t.to(self.device) for n, t in state_of(self.stored()).items()}
        destination.update({f"{prefix}{name}": tensor for name, tensor in state.items()})

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        spec = self._product.spec
        wanted = state_shapes(spec, self._biased, self._turned)
        own = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        found = {name: tensor for name, tensor in own.items() if name in wanted}
        missing = [name for name in wanted if name not in found]
        missing_keys.extend(prefix + name for name in missing)
        if strict:
            unexpected_keys.extend(prefix + name for name in own if name not in wanted)
        if not found:
            return
        device = self.device
        try:
            if missing:  # which keep what they are
                held = blank(spec, self._biased, self._turned)
                found = state_of(held if device.type == "meta" else self.stored()) | found
            self._hold(spec, from_state(spec, self._biased, self._turned, found))
        except LiftError as error:
            error_msgs.append(f"{prefix.rstrip('.') or type(self).__name__}: {error}")
            return
        if device.type != "meta":
            self._move(device)

    def extra_repr(self) -> str:
        outputs = " + ".join(map(str, self.out_features))
        return f"{self.in_features}, {outputs}, {self.rate:g} bits, axis={self._product.spec.axis}"
