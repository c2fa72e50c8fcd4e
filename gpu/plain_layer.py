"""The back half of the integer layer in plain torch: what CPU tensors take.

It reads what the kernels read, so a module on the CPU needs no other copy of its weights, and its
results are those of the kernels and of `algo.activations.integer_layer`, bit for bit. An example to
read beside them, not a fast path.
"""

import torch

from algo.activations import BASE, product_rounded_once
from gpu import reference
from gpu.planes import Digits
from gpu.stack import Segment, Stack
from gpu.weights import PackedWeights


def plain_digits(digits: Digits, inner: int) -> torch.Tensor:
    """int8 ``(tokens, per_token, inner)``: the digits out of their planes, padding dropped."""
    flat = digits.planes.permute(1, 2, 0).flatten(1)
    tokens = len(digits.step)
    return flat[: tokens * digits.per_token, :inner].reshape(tokens, digits.per_token, inner)


def stack_outputs(stack: Stack, digits: Digits, dtype: torch.dtype) -> torch.Tensor:
    """Outputs of a stack, as `gpu.project.launch` of the one-bit product gives them.

    Args:
        stack: the layers.
        digits: of their input, lifted on axis ``in``.
        dtype: float32, float16 or bfloat16.

    Returns:
        ``(tokens, outputs)`` of `dtype`.
    """
    inner = min(8 * digits.planes.shape[2], 32 * stack.words.shape[1])
    columns = plain_digits(digits, inner).reshape(-1, inner)
    if not len(columns):
        return digits.step.new_empty((0, stack.outputs), dtype=dtype)
    words = stack.words[:, : -(-inner // 32)]
    sums = reference.bitmm(words, columns.T.contiguous()).to(torch.int64)
    powers = stack.bounds.base ** torch.arange(digits.per_token, device=sums.device)
    # of both, the digits' sums together are linear: what combines first does not show
    combined = (sums.reshape(len(sums), -1, digits.per_token) * powers).sum(2)
    projected = torch.cat([_projected(stack, s, combined) for s in stack.rows()])
    return _finished(projected.T, stack.scales, stack.bias, digits.step, dtype)


def weights_outputs(weights: PackedWeights, digits: Digits, dtype: torch.dtype) -> torch.Tensor:
    """Outputs of one layer by decoding it; `digits` are of base 128, not lifted."""
    parts = plain_digits(digits, weights.columns).to(torch.float64)
    powers = float(BASE) ** torch.arange(digits.per_token, device=parts.device).double()
    integers = (parts * powers[:, None]).sum(1)
    accs = reference.decode(
        weights.words, weights.tables, weights.groups, torch.int16, weights.stream_weights,
        weights.axis,
    )  # fmt: skip
    # below 2**45, as `algo.lifted.bounds` has it, so that float64 sums are exact in any order
    sums = integers @ accs.to(torch.float64).T
    return _finished(sums, weights.scales, weights.bias, digits.step, dtype)


def _projected(stack: Stack, segment: Segment, sums: torch.Tensor) -> torch.Tensor:
    """int64 ``(outputs, tokens)`` of one segment from all sums of stream bits."""
    device = sums.device
    weight = torch.arange(segment.outputs, device=device)
    place = weight % segment.group
    taps = stack.taps[segment.taps : segment.taps + segment.group * segment.window]
    taps = taps.reshape(segment.group, segment.window).to(torch.int64)[place]
    starts = stack.starts[segment.starts : segment.starts + segment.group][place]
    first = weight // segment.group * segment.lifted + starts
    out = torch.zeros((segment.outputs, sums.shape[1]), dtype=torch.int64, device=device)
    for j in range(segment.window):
        bit = segment.first_bit + (first + j) % segment.bits
        out += taps[:, j, None] * sums[bit]
    return out


def _finished(
    sums: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor,
    step: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    exact = (sums.double() * scales.double()).cpu().numpy()
    rounded = product_rounded_once(exact, step.double().cpu().numpy()[:, None])
    return (torch.from_numpy(rounded).to(sums.device) + bias).to(dtype)
