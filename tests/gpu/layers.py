"""Quantised layers of random bits and what the kernels are fed for them."""

from collections.abc import Sequence

import numpy as np
import torch

from algo.activations import Digits, integer_layer, quantise_activations
from algo.code import LiftCode
from algo.lifted import from_digits, lift, one_bit_words, signed_digits
from algo.matrix import Axis, PackedMatrix
from algo.packing import pack_bits
from gpu.reference import bitmm
from gpu.stack import Stack
from tests.conftest import CODES

SEED = 33


def layer(
    rng: np.random.Generator, code: LiftCode, axis: Axis, shape: tuple[int, int], bit: int = -1
) -> PackedMatrix:
    """A layer of random bits, or of one `bit`; its scales have both signs, and one is zero."""
    streams, weights = shape if axis == "in" else shape[::-1]
    count = (streams, -(-weights // code.group) * code.lifted)
    bits = rng.integers(0, 2, count) if bit < 0 else np.full(count, bit)
    scales = torch.from_numpy(rng.standard_normal(shape[0])).to(torch.bfloat16)
    scales[len(scales) // 2] = 0
    return PackedMatrix(code, axis, shape, pack_bits(bits.astype(np.uint8)), scales)


def three(axis: Axis, bit: int = -1) -> tuple[list[PackedMatrix], list[torch.Tensor | None]]:
    """Layers of 150, 37 and 33 outputs and 77 inputs, in three codes on axis ``out``; biases."""
    rng = np.random.default_rng(SEED)
    names = ("LQ-12/5+9", "LQ-24/10", "LQ-2/1+10") if axis == "out" else ("LQ-12/5+9",) * 3
    shapes = ((150, 77), (37, 77), (33, 77))
    matrices = [layer(rng, CODES[n], axis, s, bit) for n, s in zip(names, shapes, strict=True)]
    return matrices, [torch.from_numpy(rng.standard_normal(150)).half(), None, torch.ones(33)]


def columns(
    matrices: Sequence[PackedMatrix], stack: Stack, x: torch.Tensor, digits: Digits
) -> tuple[torch.Tensor, torch.Tensor]:
    """int8 ``(K, tokens * per_token)`` that the one-bit product multiplies, and the steps."""
    parts, step = quantise_activations(x, digits)
    if stack.axis == "in":
        worth = lift(from_digits(parts.numpy(), 128), matrices[0].code, matrices[0].groups)
        parts = torch.from_numpy(signed_digits(worth, 256, stack.bounds.digits))
    count, tokens, inner = parts.shape
    out = torch.zeros((inner, tokens, stack.bounds.per_token), dtype=torch.int8)
    out[:, :, :count] = parts.permute(2, 1, 0)
    return out.reshape(inner, -1), step


def one_bit_sums(matrices: Sequence[PackedMatrix], operand: torch.Tensor) -> torch.Tensor:
    """int32 ``(R, N)``: the one-bit product of stacked layers, in torch."""
    words = torch.from_numpy(np.concatenate([one_bit_words(m) for m in matrices]))
    if not operand.shape[1]:
        return torch.empty((len(words), 0), dtype=torch.int32)
    return bitmm(words, operand)


def expected(
    matrices: Sequence[PackedMatrix],
    x: torch.Tensor,
    digits: Digits,
    biases: Sequence[torch.Tensor | None],
    dtype: torch.dtype,
) -> torch.Tensor:
    """The integer layers of the contract, side by side."""
    each = [integer_layer(m, x, digits, b, dtype) for m, b in zip(matrices, biases, strict=True)]
    return torch.cat(each, dim=1)


def bits_of(x: torch.Tensor) -> torch.Tensor:
    """Floating point as integers, in which -0 is not 0."""
    return x.view(torch.int32 if x.dtype == torch.float32 else torch.int16)
