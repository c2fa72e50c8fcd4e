"""Tuning a finished checkpoint end to end: the scales learn to undo what rounding did.

Row scales and input scales of all layers are trained together until the model predicts what the
original predicts (the Kullback-Leibler divergence of their next tokens). The signs stay, so the
checkpoint keeps its low-bit form all the way: what is trained is what is stored (LiftQuant, arXiv
2606.04050, section 3.4).
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from algo import layer_tensors
from algo.checkpoint import Checkpoint
from algo.errors import LiftError
from algo.evaluate import windows_digest
from algo.layer import ReferenceLinear, replace_layers
from algo.manifest import write_manifest
from algo.model import load_quantised
from algo.precision import short_products
from algo.resuming import begin, check_folder, finished
from algo.source import load_config
from algo.tunable import TunableLinear, tunable_layers

_STATE = "training.safetensors"
_SAVE_EVERY = 8  # steps


@dataclass(frozen=True)
class Tuning:
    """Settings.

    Attributes:
        epochs: passes over the windows.
        rate: first learning rate of Adam for the logarithms of the scales; falls to zero linearly.
        batch: windows per step.
    """

    epochs: int = 2
    rate: float = 1e-3
    batch: int = 4


def divergence(reference: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Mean KL(reference || model) of the next-token distributions, in nats per token."""
    told = nn.functional.log_softmax(logits.float(), dim=-1).flatten(0, 1)
    true = nn.functional.log_softmax(reference.float(), dim=-1).flatten(0, 1)
    return nn.functional.kl_div(told, true, reduction="batchmean", log_target=True)


class _Trainer:
    """The model with trainable layers, and the state of Adam, which a stopped run left behind."""

    def __init__(self, checkpoint: Checkpoint, folder: Path, steps: int, rate: float) -> None:
        # float32 whatever is carried over: so are what trainable layers put out
        self.model = load_quantised(checkpoint).float().requires_grad_(False)
        lifted = {n: m for n, m in self.model.named_modules() if isinstance(m, ReferenceLinear)}
        self.layers: dict[str, TunableLinear] = tunable_layers(
            {n: m.matrix for n, m in lifted.items()},
            {n: m.whitening for n, m in lifted.items()},
            {n: m.bias for n, m in lifted.items()},
        )
        replace_layers(self.model, self.layers)
        self._parameters = [p for p in self.model.parameters() if p.requires_grad]
        self._adam = torch.optim.Adam(self._parameters, lr=rate)
        self._rate = rate
        self._steps = steps
        self._state = folder / _STATE
        self.done = 0
        if self._state.exists():
            self._restore()

    def step(self, windows: torch.Tensor, reference: torch.Tensor) -> float:
        """One step of Adam; the divergence before it."""
        for group in self._adam.param_groups:
            group["lr"] = self._rate * (1 - self.done / self._steps)
        self._adam.zero_grad()
        with short_products():
            logits = self.model(input_ids=windows, use_cache=False).logits
        loss = divergence(reference, logits)
        if not bool(torch.isfinite(loss)):
            raise LiftError("the divergence is not finite: lower the learning rate")
        loss.backward()  # type: ignore[no-untyped-call]
        self._adam.step()
        self.done += 1
        return float(loss.detach())

    def save(self) -> None:
        tensors = {"done": torch.tensor(self.done)}
        for index, parameter in enumerate(self._parameters):
            state = self._adam.state[parameter]
            tensors[f"{index}.value"] = parameter.detach()
            tensors[f"{index}.first"] = state["exp_avg"]
            tensors[f"{index}.second"] = state["exp_avg_sq"]
        layer_tensors.save_tensors(self._state, tensors)

    def _restore(self) -> None:
        tensors = layer_tensors.read_tensors(self._state)
        self.done = int(tensors["done"])
        for index, parameter in enumerate(self._parameters):
            parameter.data.copy_(tensors[f"{index}.value"])
            self._adam.state[parameter] = {
                "step": torch.tensor(float(self.done)),
                "exp_avg": tensors[f"{index}.first"],
                "exp_avg_sq": tensors[f"{index}.second"],
            }


def _settings(checkpoint: Checkpoint, windows: torch.Tensor, tuning: Tuning) -> dict[str, Any]:
    return {
        "tuning": asdict(tuning),
        "windows": windows_digest(windows),
        "files": {name: entry.sha256 for name, entry in checkpoint.manifest.files.items()},
    }


def _check_vocabulary(checkpoint: Checkpoint, original: nn.Module) -> None:
    tokens = load_config(checkpoint.folder).vocab_size
    known = original.config.vocab_size  # type: ignore[union-attr]
    if known != tokens:
        raise LiftError(
            f"the original has {known} tokens, the checkpoint {tokens}: that is not the model it "
            "was made from"
        )


def tune_checkpoint(
    checkpoint: Checkpoint,
    original: nn.Module,
    windows: torch.Tensor,
    folder: Path,
    tuning: Tuning,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[int, str], None] | None = None,
) -> Checkpoint:
    """Tune the scales of a checkpoint end to end, into a new one.

    A run that was stopped is resumed by the same call.

    Args:
        checkpoint: the one to tune; it is not changed.
        original: the model it was made from.
        windows: int64 ``(windows, context)``, not the text that is evaluated on.
        folder: the new checkpoint.
        tuning: how long and how fast.
        on_start: told the number of steps.
        on_progress: told the steps finished since the last call, and the divergence.

    Raises:
        LiftError: the folder is taken, the original is another model, or training diverges.
    """
    check_folder(folder)
    _check_vocabulary(checkpoint, original)
    begin(folder, _settings(checkpoint, windows, tuning))
    parts = torch.split(windows, tuning.batch)
    steps = tuning.epochs * len(parts)
    if on_start:
        on_start(steps)
    trainer = _Trainer(checkpoint, folder, steps, tuning.rate)
    if on_progress and trainer.done:
        on_progress(trainer.done, "resumed")
    while trainer.done < steps:
        part = parts[trainer.done % len(parts)]
        with torch.no_grad(), short_products():
            reference = original(input_ids=part, use_cache=False).logits
        loss = trainer.step(part, reference)
        if trainer.done % _SAVE_EVERY == 0:
            trainer.save()
        if on_progress:
            on_progress(1, f"divergence {loss:.4f}")
    _write(checkpoint, trainer.layers, folder)
    return Checkpoint(folder)


def _write(checkpoint: Checkpoint, layers: dict[str, TunableLinear], folder: Path) -> None:
    """The checkpoint with the scales trained; everything else is copied."""
    whitenings = checkpoint.whitenings()
    changed: dict[str, dict[str, torch.Tensor]] = {}
    for name, entry in checkpoint.manifest.layers.items():
        tensors = changed.setdefault(entry.file, {})
        tensors |= layer_tensors.matrix_tensors(name, layers[name].stored())
        leader = entry.pre or entry.turns
        if leader is not None:
            trained = layers[leader].inputs.stored(whitenings[leader])
            tensors |= layer_tensors.whitening_tensors(leader, trained)
    for file in checkpoint.manifest.files:
        if file in changed:
            layer_tensors.save_tensors(folder / file, changed[file])
        else:
            shutil.copyfile(checkpoint.folder / file, folder / file)
    (folder / _STATE).unlink(missing_ok=True)
    manifest = checkpoint.manifest
    write_manifest(folder, manifest.source, manifest.seed, checkpoint.codes, manifest.layers)
    finished(folder)
