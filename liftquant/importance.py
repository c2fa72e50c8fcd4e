"""How much each input of a layer matters: the mean square of its activations.

What llama.cpp calls an importance matrix (its `llama-imatrix` collects the same figures).
"""

from pathlib import Path

import torch
from torch import nn


def column_importance(
    model: nn.Module, linears: list[str], calibration: torch.Tensor, batch: int = 4
) -> dict[str, torch.Tensor]:
    """float32 ``(inputs,)`` by layer: mean of x*x over all tokens of the calibration windows.

    Args:
        model: a transformers causal language model.
        linears: names of its linear layers to look at.
        calibration: int64 ``(windows, context)``.
        batch: windows per forward pass.
    """
    sums: dict[str, torch.Tensor] = {}

    def hook(name: str) -> None:
        def watch(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            square = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).double().square().sum(0)
            sums[name] = sums.get(name, torch.zeros_like(square)) + square

        handles.append(model.get_submodule(name).register_forward_pre_hook(watch))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name in linears:
        hook(name)
    try:
        with torch.inference_mode():
            for part in torch.split(calibration, batch):
                model(part)
    finally:
        for handle in handles:
            handle.remove()
    return {name: (total / calibration.numel()).float() for name, total in sums.items()}


def importance_file(
    path: Path, model: str, linears: list[str], calibration: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The same, computed once and kept in a safetensors file."""
    from algo.layer_tensors import read_tensors, save_tensors
    from algo.model import load_original

    if not path.exists():
        network, _ = load_original(model)
        save_tensors(path, column_importance(network, linears, calibration))
    return read_tensors(path)
