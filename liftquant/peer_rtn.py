"""The baseline: uniform integers, rounded to nearest, in groups along the inputs."""

from collections.abc import Mapping
from typing import Any

import torch

from algo.source import open_source
from liftquant.peer import Job, Outcome, Setting, Shapes

PACKAGE = None
CALIBRATED = False

_SIZES = ((2, 128), (2, 64), (2, 32), (3, 128), (3, 64), (3, 32), (4, 128), (4, 64))


def settings(shapes: Shapes) -> list[Setting]:
    """2 to 4 bits with a float16 scale and an integer zero for every 32 to 128 inputs."""
    return [
        Setting(f"INT{bits} group {group}", bits + (16 + bits) / group,
                {"bits": bits, "group": group})
        for bits, group in _SIZES
    ]  # fmt: skip


def round_groups(weight: torch.Tensor, bits: int, group: int) -> tuple[torch.Tensor, int]:
    """A weight ``(outputs, inputs)`` rounded to its groups' grids, and the bits that takes.

    A grid runs from the least to the greatest weight of its group, zero included; the last group
    of a row may be shorter.
    """
    rounded = []
    stored = weight.numel() * bits
    for part in torch.split(weight, group, dim=1):
        low, high = part.amin(1, keepdim=True).clamp(max=0), part.amax(1, keepdim=True).clamp(min=0)
        scale = ((high - low) / (2**bits - 1)).half().float().clamp(min=2**-24)
        zero = (-low / scale).round().clamp(0, 2**bits - 1)
        code = (part / scale + zero).round().clamp(0, 2**bits - 1)
        rounded.append((code - zero) * scale)
        stored += len(part) * (16 + bits)
    return torch.cat(rounded, 1), stored


def quantise(job: Job, options: Mapping[str, Any]) -> Outcome:
    """Round every layer."""
    weights, stored = {}, 0
    for name, weight in open_source(str(job.model)).linear_weights():
        weights[name], bits = round_groups(weight.float(), options["bits"], options["group"])
        stored += bits
    return Outcome(weights, -(-stored // 8))
