"""Short floating point for calibration, where the processor multiplies it faster."""

from functools import cache

import torch


@cache
def has_short_products() -> bool:
    """Whether this processor has instructions for bfloat16 products."""
    told = torch.cpu.get_capabilities()
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))


def short_products() -> torch.autocast:
    """A context in which matrix products of a model are taken in bfloat16, sums in float32.

    The hidden states between blocks stay float32. Without such instructions nothing changes. What
    is measured with it (Hessians, gradients) is off by the rounding that models are served with.
    """
    return torch.autocast("cpu", torch.bfloat16, enabled=has_short_products())
