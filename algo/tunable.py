"""A linear layer in low-bit form whose scales, and signs if wanted, can be trained.

Row scales and input scales are trained as logarithms, so they keep their signs; signs through
latent numbers whose sign they are, gradients passing straight through (LiftQuant, arXiv 2606.04050,
section 3.4). Whatever comes of it is a codeword of the same code: nothing is approximated when it
is stored.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from algo.code import LiftCode
from algo.matrix import PackedMatrix
from algo.packing import pack_bits, unpack_bits
from algo.whitening import Whitening


def sign_accumulators(signs: torch.Tensor, code: LiftCode) -> torch.Tensor:
    """Integer weights of streams of signs, differentiable in the signs.

    Args:
        signs: float +-1 of shape ``(streams, G*D)``.
        code: any code.

    Returns:
        ``(streams, G*d)``, the accumulators of the contract as floats.
    """
    streams, n = signs.shape
    reach = torch.cat([signs, signs[:, : code.overlap]], dim=1)
    span = code.lifted + code.overlap
    kernel = torch.from_numpy(code.taps[:, :span].astype(np.float32)).to(signs)[:, None]
    out = nn.functional.conv1d(reach[:, None], kernel, stride=code.lifted)  # (streams, d, G)
    if code.parities:
        starts = torch.arange(n // code.lifted)[None, :] * code.lifted
        places = starts + torch.tensor(code.starts)[:, None]  # (d, G)
        extra = torch.from_numpy(code.taps[:, span:].astype(np.float32)).to(signs)
        for m, mask in enumerate(code.parities):
            members = [j for j in range(code.window) if mask >> j & 1]
            product = torch.stack([signs[:, (places + j) % n] for j in members]).prod(dim=0)
            out = out + extra[:, m, None] * product
    return out.transpose(1, 2).reshape(streams, -1)


class _Sign(torch.autograd.Function):
    """The sign, +1 for zero; gradients pass as if it were the identity."""

    @staticmethod
    def forward(ctx: object, latent: torch.Tensor) -> torch.Tensor:
        return torch.where(latent < 0, -1.0, 1.0)

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


def _signs(latent: torch.Tensor) -> torch.Tensor:
    signs: torch.Tensor = _Sign.apply(latent)  # type: ignore[no-untyped-call]
    return signs


class InputScales(nn.Module):
    """Trainable input scales, shared by the layers of a group."""

    def __init__(self, whitening: Whitening) -> None:
        super().__init__()
        pre = torch.ones(whitening.size) if whitening.pre is None else whitening.pre.float()
        # a checkpoint without input scales has no place for them
        self.logs = nn.Parameter(pre.log(), requires_grad=whitening.pre is not None)

    def forward(self) -> torch.Tensor:
        scales: torch.Tensor = self.logs.exp()
        return scales

    def stored(self, whitening: Whitening) -> Whitening:
        """The transform with these scales."""
        if whitening.pre is None:
            return whitening
        return replace(whitening, pre=self().detach().to(torch.bfloat16))


class TunableLinear(nn.Module):
    """``y = s * (W (pre * x)) + bias``, W being what the signs decode to, rotated back.

    Args:
        matrix: the layer in low-bit form.
        whitening: its transform; of its input scales `inputs` takes the place.
        inputs: trainable input scales.
        bias: ``(outputs,)`` or None, not trained.
        signs: whether the signs can be trained; the latents behind them start at 1 and -1.
    """

    def __init__(
        self, matrix: PackedMatrix, whitening: Whitening, inputs: InputScales,
        bias: torch.Tensor | None, signs: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self._matrix = matrix
        self._rotation = replace(whitening, pre=None)
        self.inputs = inputs
        self.bias = bias
        scales = matrix.scales.float()
        self._scale_signs = scales.sign()  # 0 for rows of zeros, which stay so
        self.log_scales = nn.Parameter(torch.where(scales == 0, 1.0, scales.abs()).log())
        self.latent: nn.Parameter | None = None
        if not signs:
            accs = torch.from_numpy(np.ascontiguousarray(matrix.accumulators())).float()
            self._fixed: torch.Tensor = self._unrotated(accs)
        else:
            bits = unpack_bits(matrix.words, matrix.groups * matrix.code.lifted)
            self.latent = nn.Parameter(torch.from_numpy(bits.astype(np.float32)) * 2 - 1)

    def _unrotated(self, accs: torch.Tensor) -> torch.Tensor:
        dense: torch.Tensor = self._rotation.undo(accs * 2.0**-self._matrix.code.exponent)
        return dense

    def weights(self) -> torch.Tensor:
        """``(outputs, inputs)`` before both scales, in the layer's own basis."""
        if self.latent is None:
            return self._fixed
        matrix = self._matrix
        streams = sign_accumulators(_signs(self.latent), matrix.code)
        kept = streams[:, : matrix.stream_weights]
        dense: torch.Tensor = self._unrotated(kept if matrix.axis == "in" else kept.T)
        return dense

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scales = self._scale_signs * self.log_scales.exp()
        product: torch.Tensor = ((x * self.inputs()) @ self.weights().T) * scales
        return product if self.bias is None else product + self.bias

    def stored(self) -> PackedMatrix:
        """The layer in low-bit form, scales rounded to bfloat16."""
        scales = (self._scale_signs * self.log_scales.detach().exp()).to(torch.bfloat16)
        if self.latent is None:
            return replace(self._matrix, scales=scales)
        bits = (self.latent.detach() >= 0).numpy().astype(np.uint8)
        return replace(self._matrix, words=pack_bits(bits), scales=scales)


def tunable_layers(
    matrices: Mapping[str, PackedMatrix],
    whitenings: Mapping[str, Whitening],
    biases: Mapping[str, torch.Tensor | None],
    signs: bool = False,
) -> dict[str, TunableLinear]:
    """Trainable layers by name; those that share a transform share its input scales.

    Args:
        matrices: by layer.
        whitenings: by layer; one object for layers that share an input.
        biases: by layer.
        signs: as `TunableLinear` takes it.
    """
    inputs: dict[int, InputScales] = {}
    layers = {}
    for name, matrix in matrices.items():
        whitening = whitenings[name]
        shared = inputs.setdefault(id(whitening), InputScales(whitening))
        layers[name] = TunableLinear(matrix, whitening, shared, biases[name], signs)
    return layers
