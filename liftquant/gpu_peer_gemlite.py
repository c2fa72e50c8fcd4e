"""GemLite's Triton kernels: float16 activations, 2 or 4 bit weights in groups.

After its README and ``gemlite/helper.py`` (github.com/mobiusml/gemlite): `GemLiteLinear` packs
codes, scales and zeros as hqq has them. Written after its documentation, not run.
"""

import importlib

import torch

from liftquant.gpu_peer import NOT_RUN, Prepared, grouped

BITS = (2, 4)
NOTE = NOT_RUN


def prepare(weights: torch.Tensor, bits: int) -> Prepared:
    """Weights packed as A16W2 or A16W4."""
    core = importlib.import_module("gemlite.core")

    rows, columns = weights.shape
    parts = grouped(weights, bits)
    layer = core.GemLiteLinear(
        bits, group_size=parts.group, in_features=columns, out_features=rows,
        input_dtype=core.DType.FP16, output_dtype=core.DType.FP16, scaled_activations=False,
    )  # fmt: skip
    flat = (parts.scales.reshape(-1, 1), parts.zeros.reshape(-1, 1))  # a row for every group
    layer.pack(parts.codes, *flat, bias=None)
    return Prepared(layer, bits + parts.bits_per_weight)
