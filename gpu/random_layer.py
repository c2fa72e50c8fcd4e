"""Layers of random words, which are as valid as a checkpoint's, and activations for them."""

import numpy as np
import torch

from algo.code import LiftCode
from algo.matrix import Axis, PackedMatrix, word_shape
from algo.packing import WORD, stream_groups


def random_matrix(
    shape: tuple[int, int], code: LiftCode, axis: Axis, seed: int = 0
) -> PackedMatrix:
    """A matrix of random bits with row scales between 0.01 and 0.02.

    Args:
        shape: ``(rows, columns)``.

    Raises:
        LiftError: the streams are too short for the code.
    """
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 1 << WORD, word_shape(shape, code, axis), dtype=np.uint32)
    weights = shape[1] if axis == "in" else shape[0]
    used = stream_groups(weights, code) * code.lifted % WORD
    if used:  # bits past a stream's end are zero
        words[:, -1] &= np.uint32((1 << used) - 1)
    scales = torch.from_numpy(rng.uniform(0.01, 0.02, shape[0])).to(torch.bfloat16)
    return PackedMatrix(code, axis, shape, words, scales)


def random_activations(tokens: int, columns: int, seed: int = 0) -> torch.Tensor:
    """float16 ``(tokens, columns)``, normally distributed, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((tokens, columns), generator=generator).to(torch.float16)
