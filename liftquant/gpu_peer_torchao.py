"""torchao's int4 weights by torch's own tinygemm kernel: bfloat16 activations.

After the reference of `Int4WeightOnlyConfig` (docs.pytorch.org/ao), with the packing that kernel
reads. Written after its documentation, not run.
"""

import importlib

import torch

from liftquant.gpu_peer import NOT_RUN, Prepared, group_size

BITS = (4,)
NOTE = NOT_RUN


def prepare(weights: torch.Tensor, bits: int) -> Prepared:
    """A linear layer quantised in place."""
    quantization = importlib.import_module("torchao.quantization")

    rows, columns = weights.shape
    group = group_size(columns)
    with torch.device("meta"):
        linear = torch.nn.Linear(columns, rows, bias=False)
    linear.weight = torch.nn.Parameter(weights.bfloat16(), requires_grad=False)
    config = quantization.Int4WeightOnlyConfig(
        group_size=group, int4_packing_format="tile_packed_to_4d"
    )
    quantization.quantize_(linear, config)
    # a bfloat16 scale and zero for each group
    return Prepared(linear, bits + 32 / group, torch.bfloat16)
