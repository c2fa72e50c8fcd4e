"""A linear layer that keeps its weights packed."""

from collections.abc import Mapping

import torch
from torch import nn

from algo.activations import Digits, integer_layer
from algo.matrix import PackedMatrix
from algo.whitening import Whitening


class ReferenceLinear(nn.Module):
    """``y = W x + bias`` with W in low-bit form; a drop-in for `torch.nn.Linear` on the CPU.

    The decoded, whitened weights are kept once the first call has made them (`release` drops them);
    they are no part of the state that is saved.

    Args:
        matrix: the packed weights, ``(outputs, inputs)``.
        whitening: the basis they are in.
        bias: ``(outputs,)`` or None.
        digits: None for a floating-point product; 1 or 2 for the integer layer of the contract
            with so many int8 digits per activation.

    The floating-point product is in float32 (float64 for such inputs) and rounded to the input's
    dtype at the end. For n whitened inputs ``x'`` and outputs of unit roundoff u (2**-24 in
    float32, 2**-11 in float16, 2**-8 in bfloat16) an output is within
    ``n * 2**-23 * sum |w||x'| + u * |y|`` of the exact one.
    """

    def __init__(
        self,
        matrix: PackedMatrix,
        whitening: Whitening,
        bias: torch.Tensor | None = None,
        digits: Digits | None = None,
    ) -> None:
        super().__init__()
        self.matrix = matrix
        self.whitening = whitening
        self.digits = digits
        self.out_features, self.in_features = matrix.shape
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self._decoded: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(..., inputs)`` to ``(..., outputs)``, in the dtype of `x`."""
        if self.digits is not None:  # integers that depend on no machine need such inputs
            return self.forward_whitened(self.whitening.ordered(x)).to(x.dtype)
        wide = torch.promote_types(x.dtype, torch.float32)
        return self.forward_whitened(self.whitening.activations(x.to(wide))).to(x.dtype)

    def forward_whitened(self, x: torch.Tensor) -> torch.Tensor:
        """The same for activations already whitened; on the identity it returns the weights."""
        if self.digits is None:
            wide = torch.promote_types(x.dtype, torch.float32)  # rounded to a short dtype once
            product = (x.to(wide) @ self.decoded(wide).T).to(x.dtype)
            return product if self.bias is None else product + self.bias.to(x.dtype)
        flat = x.reshape(-1, self.in_features)
        out = integer_layer(self.matrix, flat, self.digits, self.bias, x.dtype)
        return out.reshape(*x.shape[:-1], self.out_features)

    def decoded(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Whitened weights ``(outputs, inputs)``; exact in float32."""
        if self._decoded is None or self._decoded.dtype != dtype:
            self._decoded = self.matrix.dequantise().to(dtype)
        return self._decoded

    def release(self) -> None:
        """Forget the decoded weights, to free their memory."""
        self._decoded = None

    def extra_repr(self) -> str:
        m = self.matrix
        return f"{self.in_features}, {self.out_features}, {m.code.name}, axis={m.axis}"


def replace_layers(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    """Put modules in the place of those that have their names in `model`."""
    for name, layer in layers.items():
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer)
