"""Layers as they are served, and the reference's for the same."""

import numpy as np
import torch

from algo.layer import ReferenceLinear
from algo.shipped import load_code
from algo.whitening import random_whitening
from gpu.linear import LiftLinear
from tests.gpu.layers import layer

SEED = 31
INPUTS = 77
LINEAR = [("LQ-12/5+9", 33), ("LQ-2/1+6", 50), ("LQ-24/10", 17)]
PARITIES = [("LQ-12/5+9^12", 33), ("LQ-2/1+10", 50)]


def made(layers, axis, digits, bias=True):
    """The module and the layers that it stands for."""
    rng = np.random.default_rng([SEED, axis == "in", digits, len(layers)])
    whitening = random_whitening(INPUTS, SEED)
    pre = torch.from_numpy(rng.uniform(0.5, 2, INPUTS)).to(torch.bfloat16)
    whitening = type(whitening)(whitening.left, whitening.right, pre)
    matrices = [layer(rng, load_code(name), axis, (rows, INPUTS)) for name, rows in layers]
    biases = [torch.randn(rows) if bias and i != 1 else None for i, (_, rows) in enumerate(layers)]
    module = LiftLinear(matrices, whitening, digits, biases)
    alone = [
        ReferenceLinear(m, whitening, b, digits) for m, b in zip(matrices, biases, strict=True)
    ]
    return module, alone


def inputs(tokens, dtype=torch.float32):
    torch.manual_seed(SEED + tokens)
    return (torch.randn(tokens, INPUTS) * torch.logspace(-3, 3, INPUTS)).to(dtype)


def expected(alone, x):
    return torch.cat([one(x) for one in alone], dim=-1)


def same(got, want):
    """Equal bit for bit, in type and shape too."""
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    return torch.equal(got.contiguous().view(torch.uint8), want.contiguous().view(torch.uint8))
