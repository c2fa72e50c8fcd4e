"""One layer's outputs by the GPU's kernels, interpreted, and the CPU's, beside the reference's."""

from typing import NamedTuple

import numpy as np
import torch

from algo.activations import Digits
from algo.layer import ReferenceLinear
from algo.matrix import PackedMatrix
from algo.whitening import Whitening

TOKENS = 3
DIGITS: Digits = 2  # a15
MANY = 12  # times the tokens are too many for the CPU to count bits


class LayerOutputs(NamedTuple):
    """What was compared: float32 ``(paths * TOKENS, rows)`` each."""

    expected: torch.Tensor
    got: torch.Tensor

    @property
    def wrong(self) -> torch.Tensor:
        """Where they differ in any bit, bool of the same shape."""
        return self.expected.view(torch.int32) != self.got.view(torch.int32)


def layer_outputs(matrix: PackedMatrix, whitening: Whitening, seed: int = 0) -> LayerOutputs:
    """Whiten, quantise, multiply, project and scale a few tokens by the kernels.

    By the GPU's fused one-bit product and by that with K split where the code is linear, by decode
    and multiply where it has parities; by the CPU's one-bit product, and by its decoding, to which
    the tokens come as the last of many.

    Args:
        matrix: the packed weights.
        whitening: the layer's own.
        seed: of the activations: normal ones, of which the second token has a large outlier.
    """
    from gpu.interpret import interpreter
    from gpu.linear import LiftLinear
    from gpu.tuning_table import Choice

    drawn = np.random.default_rng(seed).standard_normal((TOKENS, matrix.shape[1]))
    drawn[1, 0] = 1000
    x = torch.from_numpy(drawn.astype(np.float32))
    module = LiftLinear([matrix], whitening, DIGITS)
    choices = [Choice(path="fused"), Choice(path="bitmm", split=2)]
    if matrix.code.parities:
        choices = [Choice(path="decode-dot")]
    with interpreter(checked=False) as run:
        got = [module.by_kernels(run, x, choice) for choice in choices]
    got += [module(x), module(x.repeat(MANY, 1))[-TOKENS:]]
    expected = ReferenceLinear(matrix, whitening, None, DIGITS)(x)
    return LayerOutputs(torch.cat([expected] * len(got)), torch.cat(got))
