"""GPTQ (Frantar et al., ICLR 2023, arXiv 2210.17323) by the package gptqmodel, on the CPU."""

import os
import tempfile
from collections.abc import Mapping
from typing import Any

import torch

from liftquant.peer import Job, Outcome, Setting, Shapes

PACKAGE = "gptqmodel"
CALIBRATED = True

_SIZES = ((2, 128), (2, 64), (2, 32), (3, 128), (3, 64), (3, 32), (4, 128), (4, 64))


def settings(shapes: Shapes) -> list[Setting]:
    """2 to 4 bits in groups of 32 to 128 inputs.

    Grids are symmetric, as is the package's default, from 3 bits on. At 2 bits that would leave
    one positive level, so zeros are free there.
    """
    return [
        Setting(f"{bits} bits, group {group}", bits + (16 + bits) / group,
                {"bits": bits, "group": group, "symmetric": bits > 2})
        for bits, group in _SIZES
    ]  # fmt: skip


def quantise(job: Job, options: Mapping[str, Any]) -> Outcome:
    """Quantise the model, save it, and read the weights from what was saved.

    The model in memory is not what a user runs: its zeros are off by one until they are loaded.
    """
    # with fewer workers than it wants for loading, the package refuses to start
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

    config = QuantizeConfig(
        bits=options["bits"], group_size=options["group"], sym=options["symmetric"],
        device="cpu", offload_to_disk=False,
    )  # fmt: skip
    model = GPTQModel.load(str(job.model), config, dtype=torch.float32)
    rows = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in
            job.calibration.tolist()]  # fmt: skip
    model.quantize(rows, batch_size=4)
    with tempfile.TemporaryDirectory(dir=job.scratch, prefix="saved.") as folder:
        model.save(folder)
        loaded = GPTQModel.load(folder, device="cpu", backend=BACKEND.TORCH).model
    weights, stored = {}, 0
    for name in job.linears:
        layer = loaded.get_submodule(name)
        # without act-order the group of an input is known: g_idx need not be stored
        stored += sum(t.nbytes for t in (layer.qweight, layer.qzeros, layer.scales))
        weights[name] = layer.dequantize_weight().T.detach().float().contiguous()
    return Outcome(weights, stored)
