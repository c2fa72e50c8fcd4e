"""SignRound (Cheng et al., 2023, arXiv 2309.05516): roundings tuned by gradient; by auto-round."""

from collections.abc import Mapping
from typing import Any

import torch

from algo.model import load_original
from liftquant.peer import Job, Outcome, Setting, Shapes

PACKAGE = "auto-round"
CALIBRATED = True

_SIZES = ((2, 128), (2, 64), (2, 32), (3, 128), (3, 32), (4, 128))
_STEPS = 200  # per block: the package's default


def settings(shapes: Shapes) -> list[Setting]:
    """2 to 4 bits, symmetric as is the package's default, groups of 32 to 128 inputs."""
    return [
        Setting(f"{bits} bits, group {group}", bits + (16 + bits) / group,
                {"bits": bits, "group": group, "steps": _STEPS})
        for bits, group in _SIZES
    ]  # fmt: skip


def quantise(job: Job, options: Mapping[str, Any]) -> Outcome:
    """Tune and round the model with the package's defaults."""
    from auto_round import AutoRound

    bits, group = options["bits"], options["group"]
    network, tokenizer = load_original(str(job.model))
    tuner = AutoRound(
        network,
        tokenizer,
        bits=bits,
        group_size=group,
        iters=options["steps"],
        dataset=[{"input_ids": row[None]} for row in job.calibration],
        nsamples=len(job.calibration),
        seqlen=job.calibration.shape[1],
        batch_size=8,
        device_map="cpu",
        enable_torch_compile=False,
    )
    model, _ = tuner.quantize()
    weights, stored = {}, 0
    for name in job.linears:
        weight = model.get_submodule(name).weight.detach().float()
        rows, columns = weight.shape
        # as its GPTQ-format files have it: codes, and per group a float16 scale and a zero
        stored += rows * (columns * bits + -(-columns // group) * (16 + bits))
        weights[name] = weight
    if any(torch.unique(w[0, :group]).numel() > 2**bits for w in weights.values()):
        raise RuntimeError("auto-round left weights unrounded")
    return Outcome(weights, -(-stored // 8))
