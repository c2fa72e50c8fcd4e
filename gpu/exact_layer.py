"""The exact layer in plain torch, on any device: what the paths are compared with."""

import torch

from algo.activations import BASE, product_rounded_once
from algo.matrix import PackedMatrix
from algo.packing import extend_words
from gpu import reference
from gpu.tables import code_tables

_CHUNK = 1 << 24  # weights decoded at a time, 128 MiB in float64


def exact_layer(
    matrix: PackedMatrix, digits: torch.Tensor, step: torch.Tensor
) -> torch.Tensor:
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
    tables = code_tables(matrix.code, device)
    powers = torch.tensor([float(BASE**k) for k in range(len(digits))], device=device).double()
    integers = (digits.double() * powers[:, None, None]).sum(0)
    tokens, rows = integers.shape[0], matrix.shape[0]
    sums = torch.zeros((tokens, rows), dtype=torch.float64, device=device)
    chunk = max(1, _CHUNK // matrix.stream_weights)
    for first in range(0, matrix.streams, chunk):
        part = slice(first, min(first + chunk, matrix.streams))
        words = extend_words(matrix.words[part], matrix.groups, matrix.code)
        held = torch.from_numpy(words.view("int32")).to(device)
        accs = reference.decode(held, tables, matrix.groups, torch.int16)
        accs = accs[:, : matrix.stream_weights].double()
        if matrix.axis == "in":
            sums[:, part] = integers @ accs.T
        else:
            sums += integers[:, part] @ accs
    scaled = sums.cpu() * (matrix.scales.double() * 2.0**-matrix.code.exponent)
    rounded = product_rounded_once(scaled.numpy(), step.double().cpu().numpy()[:, None])
    return torch.from_numpy(rounded).to(device)


def random_matrix(
    rows: int, columns: int, code: "LiftCode", axis: "Axis", seed: int
) -> PackedMatrix:
    """A matrix of random words: any bits are a valid checkpoint's."""
