"""Our own entry in a comparison."""

from collections.abc import Callable
from pathlib import Path

import torch

from algo.checkpoint import Checkpoint

# a new name makes a comparison run our entries again
METHOD = "allocated, feedback"
_CHOOSING = 0.2  # part of the time that choosing codes takes, about


def quantise_ours(
    model: str,
    bits: float,
    folder: Path,
    calibration: torch.Tensor | None = None,
    on_progress: Callable[[float], None] = lambda part: None,
) -> Checkpoint:
    """Quantise a model to a checkpoint of `bits` per weight, as `liftquant quantize` does.

    Args:
        model: what a user names: a directory, hub id or .gguf file.
        bits: rate of the code.
        folder: the checkpoint; an unfinished one is resumed.
        calibration: int64 ``(windows, context)``: tokens to calibrate with.
        on_progress: told the part of the work finished since the last call.

    Raises:
        LiftError: no shipped code has the rate, or the model cannot be quantised.
    """
    from algo.calibrated import Calibration
    from algo.quantise import quantise_model
    from algo.source import open_source
    from liftquant.recipes import Wish, make_recipe

    source = open_source(model)
    total = sum(weight.numel() for _, weight in source.linear_weights())
    text = None if calibration is None else Calibration(calibration)
    recipe = make_recipe(
        source, Wish(bits), text, lambda part: on_progress(part * _CHOOSING), folder
    )
    return quantise_model(
        source, recipe, folder,
        on_progress=lambda weights, _: on_progress((1 - _CHOOSING) * weights / total),
    )  # fmt: skip


def stored_bytes(checkpoint: Checkpoint) -> int:
    """What the quantised layers take: words with their padding, scales, whitening."""
    kinds = checkpoint.payload_bytes()
    return sum(size for kind, size in kinds.items() if kind not in ("carried", "headers"))
