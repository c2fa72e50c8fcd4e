"""Marlin, as vLLM has it: float16 activations, symmetric 4 bit weights in groups.

After vLLM's ``benchmarks/kernels/benchmark_marlin.py`` and ``marlin_utils.py``, whose functions
move between its versions. Written after them, not run.
"""

import importlib

import torch

from liftquant.gpu_peer import NOT_RUN, Prepared, group_size

BITS = (4,)
NOTE = NOT_RUN
_UTILITIES = "vllm.model_executor.layers.quantization.utils"


def prepare(weights: torch.Tensor, bits: int) -> Prepared:
    """Weights permuted and packed as the kernel reads them."""
    utilities = importlib.import_module(f"{_UTILITIES}.marlin_utils")
    packing = importlib.import_module(f"{_UTILITIES}.marlin_utils_test")
    kind = importlib.import_module("vllm.scalar_type").scalar_types.uint4b8
    rows, columns = weights.shape
    group = group_size(columns)
    _, held, scales, *_ = packing.marlin_quantize(weights.T.contiguous(), kind, group, False)
    none = utilities.marlin_make_empty_g_idx(weights.device)
    workspace = utilities.marlin_make_workspace_new(weights.device)

    def call(x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = utilities.apply_gptq_marlin_linear(
            input=x, weight=held, weight_scale=scales, weight_zp=none, g_idx=none,
            g_idx_sort_indices=none, workspace=workspace, wtype=kind,
            output_size_per_partition=rows, input_size_per_partition=columns, is_k_full=True,
        )  # fmt: skip
        return product

    return Prepared(call, bits + 16 / group)
