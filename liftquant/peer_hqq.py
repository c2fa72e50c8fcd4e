"""HQQ (Badri and Shaji, 2023), by its authors' package: half-quadratic, without calibration."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from algo.source import open_source
from liftquant.peer import Job, Outcome, Setting, Shapes

PACKAGE = "hqq"
CALIBRATED = False

_SIZES = ((2, 128), (2, 64), (2, 32), (2, 16), (3, 128), (3, 64), (4, 128), (4, 64))
_STORED = {2: 2.0, 3: 3.2, 4: 4.0}  # the package packs ten 3-bit weights into 32 bits


def settings(shapes: Shapes) -> list[Setting]:
    """2 to 4 bits with a 16-bit scale and zero for every 16 to 128 weights."""
    return [
        Setting(f"{bits} bits, group {group}", _STORED[bits] + 32 / group,
                {"bits": bits, "group": group}, f"{bits} bits")
        for bits, group in _SIZES
        if all(rows * columns % group == 0 for rows, columns in shapes.values())
    ]  # fmt: skip


def quantise(job: Job, options: Mapping[str, Any]) -> Outcome:
    """Quantise every layer with the package's defaults (axis 1), scales and zeros in float16."""
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    config = BaseQuantizeConfig(nbits=options["bits"], group_size=options["group"])
    weights, stored = {}, 0
    for name, weight in open_source(str(job.model)).linear_weights():
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight = nn.Parameter(weight.float(), requires_grad=False)
        layer = HQQLinear(linear, config, compute_dtype=torch.float16, device="cpu")
        scale, zero = layer.meta["scale"], layer.meta["zero"]
        stored += sum(t.nbytes for t in (layer.W_q, scale, zero))
        weights[name] = layer.dequantize().detach().float()
    return Outcome(weights, stored, "3 bits are packed into 3.2" if options["bits"] == 3 else "")
