"""BitBLAS: float16 activations, unsigned 2 or 4 bit weights in groups.

After ``docs/QuickStart.md`` (github.com/microsoft/BitBLAS). It tunes itself when it is made, which
its documentation puts at minutes. Written after its documentation, not run.
"""

import importlib

import torch

from liftquant.gpu_peer import NOT_RUN, Prepared, grouped

BITS = (2, 4)
NOTE = NOT_RUN
_TOKENS = [1, 8, 32, 512]  # what its kernels are made for; it takes others


def prepare(weights: torch.Tensor, bits: int) -> Prepared:
    """Weights in its layout, and its operator."""
    bitblas = importlib.import_module("bitblas")

    rows, columns = weights.shape
    parts = grouped(weights, bits)
    config = bitblas.MatmulConfig(
        M=_TOKENS, N=rows, K=columns, A_dtype="float16", W_dtype=f"uint{bits}",
        accum_dtype="float16", out_dtype="float16", layout="nt", with_bias=False,
        group_size=parts.group, with_scaling=True, with_zeros=True, zeros_mode="original",
    )  # fmt: skip
    product = bitblas.Matmul(config=config)
    held = product.transform_weight(parts.codes.to(torch.int8))
    return Prepared(
        lambda x: product(x, held, scale=parts.scales, zeros=parts.zeros),
        bits + parts.bits_per_weight,
    )
