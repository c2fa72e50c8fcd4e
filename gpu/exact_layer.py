"""The exact layer in plain torch, on any device: what the paths are compared with."""

from collections.abc import Iterator

import torch

from algo.activations import BASE, product_rounded_once
from algo.matrix import PackedMatrix
from algo.packing import extend_words
from gpu import reference
from gpu.tables import code_tables

_CHUNK = 1 << 24  # weights decoded at a time, 128 MiB in float64


def exact_layer(matrix: PackedMatrix, digits: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Digits times integer weights, scaled and rounded once: `algo.activations.integer_layer`.

    Args:
        matrix: the packed weights.
        digits: int8 ``(digits, tokens, columns)``, least significant first, on the device to use.
        step: float32 ``(tokens,)``.

    Returns:
        float32 ``(tokens, rows)`` on that device. The sums are taken in float64 and are exact: they
        are integers below ``2**53``, as K is below ``2**53 / (2047 * 128 * 128)``.
    """
    device = digits.device
    powers = torch.tensor([float(BASE**k) for k in range(len(digits))], device=device).double()
    integers = (digits.double() * powers[:, None, None]).sum(0)
    sums = torch.zeros((len(integers), matrix.shape[0]), dtype=torch.float64, device=device)
    for part, accs in _decoded(matrix, device):
        if matrix.axis == "in":
            sums[:, part] = integers @ accs.double().T
        else:
            sums += integers[:, part] @ accs.double()
    scaled = sums.cpu() * (matrix.scales.double() * 2.0**-matrix.code.exponent)
    rounded = product_rounded_once(scaled.numpy(), step.double().cpu().numpy()[:, None])
    return torch.from_numpy(rounded).to(device)


def decoded_weights(matrix: PackedMatrix, device: torch.device) -> torch.Tensor:
    """float32 ``(rows, columns)``: `PackedMatrix.dequantise` on a device, exact."""
    weights = torch.empty(matrix.shape, device=device)
    for part, accs in _decoded(matrix, device):
        if matrix.axis == "in":
            weights[part] = accs.float()
        else:
            weights[:, part] = accs.float().T
    return weights.mul_((matrix.scales.float() * 2.0**-matrix.code.exponent).to(device)[:, None])


def _decoded(matrix: PackedMatrix, device: torch.device) -> Iterator[tuple[slice, torch.Tensor]]:
    """Some streams at a time: which, and int16 ``(streams, weights)`` of them."""
    tables = code_tables(matrix.code, device)
    chunk = max(1, _CHUNK // matrix.stream_weights)
    for first in range(0, matrix.streams, chunk):
        part = slice(first, min(first + chunk, matrix.streams))
        words = extend_words(matrix.words[part], matrix.groups, matrix.code)
        held = torch.from_numpy(words.view("int32")).to(device)
        weights = matrix.stream_weights
        yield part, reference.decode(held, tables, matrix.groups, torch.int16, weights)
