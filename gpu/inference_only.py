"""Outputs of quantised layers end a gradient's way with an error.

Without one, ``loss.backward()`` would stop there unseen, and train what lies behind the last
quantised layer alone.
"""

from typing import Any

import torch

from algo.errors import LiftError


class _InferenceOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise LiftError(
            "quantised layers are for inference, no gradient goes through them; train the original "
            "model and quantise it again, or `model.dequantize()` first"
        )


def inference_only(x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """`out`, made of `x` by a quantised layer; where gradients are kept, asking for one fails."""
    if not x.requires_grad:
        return out
    result: torch.Tensor = _InferenceOnly.apply(x, out)  # type: ignore[no-untyped-call]
    return result
