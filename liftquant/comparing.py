"""Ours and the peers on one model: quantise, count bits, evaluate; entry by entry, resumable.

Every finished entry is a file of its own in ``entries``, named by a hash of what it depends on
(peer, version, settings, model, tokens), so a repeated command runs only what is missing.
"""

import copy
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from algo.checkpoint import Checkpoint
from algo.errors import LiftError
from algo.evaluate import compare_logits, windows_digest
from algo.manifest import MANIFEST
from algo.model import load_original, load_quantised
from algo.source import Source
from liftquant import __version__, peer_ours
from liftquant.comparison import Comparison, Entry, Missing, read_entry, write_entry
from liftquant.peer import Job, Outcome, Peer, Setting, settings_near
from liftquant.peer_process import run_peer

PEERS = {
    "rtn": "liftquant.peer_rtn",
    "hqq": "liftquant.peer_hqq",
    "gptq": "liftquant.peer_gptq",
    "autoround": "liftquant.peer_autoround",
    "gguf": "liftquant.peer_gguf",
}
OURS = "liftquant"


@dataclass(frozen=True)
class Task:
    """What is compared: the model, and the tokens to evaluate on and to calibrate with."""

    source: Source
    text: str
    windows: torch.Tensor
    calibration_text: str
    calibration: torch.Tensor
    batch: int


@dataclass(frozen=True)
class _Plan:
    peer: str
    setting: Setting
    version: str
    dependencies: Mapping[str, Any]  # what the entry must be made again for, if it changes

    @property
    def key(self) -> str:
        text = json.dumps(self.dependencies, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


Progress = Callable[[float, str], None]


def _load_peer(name: str) -> tuple[Peer, str]:
    """A peer's module and the version of its package.

    Raises:
        LiftError: the package is not installed.
    """
    peer: Peer = import_module(PEERS[name])
    if peer.PACKAGE is None:
        return peer, __version__
    try:
        return peer, version(peer.PACKAGE)
    except PackageNotFoundError:
        raise LiftError(
            f"the package {peer.PACKAGE} is not installed: pip install 'liftquant[compare]'"
        ) from None


class Run:
    """One comparison in one folder.

    Args:
        task: what to compare on.
        folder: results; ``work`` inside it holds what only a repeated run needs.
    """

    def __init__(self, task: Task, folder: Path) -> None:
        self._task = task
        self._folder = folder
        self._entries = folder / "entries"
        self._reference: nn.Module | None = None
        self._candidate: nn.Module | None = None
        source = task.source
        self._linears = source.linears
        self._shapes = {n: (w.shape[0], w.shape[1]) for n, w in source.linear_weights()}
        self._weights = sum(rows * columns for rows, columns in self._shapes.values())
        self._fingerprint = source.fingerprint()
        self._work = folder / "work" / self._fingerprint[:16]
        self.missing: list[Missing] = []
        self.plans: list[_Plan] = []

    def plan(self, sizes: Sequence[float], peers: Sequence[str]) -> None:
        """Choose settings near the sizes; note the peers that cannot run."""
        for name in peers:
            try:
                peer, its_version = _load_peer(name)
            except LiftError as error:
                self.missing.append(Missing(name, None, str(error)))
                continue
            for setting in settings_near(peer.settings(self._shapes), sizes):
                self._add(name, setting, its_version, peer.CALIBRATED)
        for size in sizes:
            options = {"bits": float(size), "method": peer_ours.METHOD}
            self._add(OURS, Setting(f"{size:g} bits", size, options), __version__, True)

    def _add(self, peer: str, setting: Setting, its_version: str, calibrated: bool) -> None:
        dependencies = {
            "peer": peer, "options": dict(setting.options), "version": its_version,
            "model": self._fingerprint, "windows": windows_digest(self._task.windows),
            "calibration": windows_digest(self._task.calibration) if calibrated else None,
        }  # fmt: skip
        self.plans.append(_Plan(peer, setting, its_version, dependencies))

    @property
    def pending(self) -> list[_Plan]:
        return [plan for plan in self.plans if not self._path(plan).exists()]

    def _path(self, plan: _Plan) -> Path:
        return self._entries / f"{plan.key}.json"

    def carry_out(self, on_progress: Progress) -> None:
        """Run what is missing; a failure is noted with its reason, and the rest goes on.

        Args:
            on_progress: told the part of an entry finished since the last call, and what is done.
        """
        for plan in self.pending:
            title = f"{plan.peer} {plan.setting.label}"
            advanced = 0.0

            def report(part: float, doing: str, title: str = title) -> None:
                nonlocal advanced
                advanced += part
                on_progress(part, f"{title}: {doing}")

            try:
                self._finish(plan, report)
            except LiftError as error:
                self.missing.append(Missing(plan.peer, plan.setting.label, str(error)))
            on_progress(1 - advanced, title)

    def _finish(self, plan: _Plan, report: Progress) -> None:
        report(0, "quantising")
        began = time.monotonic()
        note = ""
        if plan.peer == OURS:
            checkpoint = self._ours(plan, lambda part: report(part / 2, "quantising"))
            seconds, stored = time.monotonic() - began, peer_ours.stored_bytes(checkpoint)
            model = load_quantised(checkpoint)
            report(0, "evaluating")
        else:
            outcome = self._run_peer(plan, report)
            seconds, stored, note = time.monotonic() - began, outcome.stored_bytes, outcome.note
            model = self._with_weights(outcome)
            report(0.5, "evaluating")
        step = 0.5 / len(self._task.windows)
        divergence = compare_logits(
            self._original(), model, self._task.windows, self._task.batch,
            lambda windows: report(step * windows, "evaluating"),
        )  # fmt: skip
        entry = Entry(
            peer=plan.peer, label=plan.setting.label, bits=stored * 8 / self._weights,
            seconds=seconds, divergence=divergence, version=plan.version, note=note,
        )  # fmt: skip
        write_entry(self._path(plan), entry, plan.dependencies)

    def _ours(self, plan: _Plan, on_progress: Callable[[float], None]) -> Checkpoint:
        folder = self._work / f"ours-{plan.key}"
        if (folder / MANIFEST).exists():
            return Checkpoint(folder)
        return peer_ours.quantise_ours(
            self._task.source.name, plan.setting.bits, folder, self._task.calibration, on_progress
        )

    def _run_peer(self, plan: _Plan, report: Progress) -> Outcome:
        calibration = self._task.calibration
        scratch = self._work / f"{plan.peer}-{windows_digest(calibration)[:16]}"
        scratch.mkdir(parents=True, exist_ok=True)
        job = Job(self._directory(), self._linears, calibration, scratch)
        log = self._folder / "logs" / f"{plan.peer}-{plan.setting.label.replace(' ', '-')}.log"
        return run_peer(
            PEERS[plan.peer], job, plan.setting.options, log, lambda: report(0, "quantising")
        )

    def _directory(self) -> Path:
        """The original as a Hugging Face directory in float32, made once."""
        folder = self._work / "model"
        if not folder.exists():
            self._work.mkdir(parents=True, exist_ok=True)
            model, tokenizer = load_original(self._task.source.name)
            with tempfile.TemporaryDirectory(dir=self._work, prefix="model.") as aside:
                made = Path(aside) / "model"
                model.float().save_pretrained(made)  # type: ignore[operator]
                tokenizer.save_pretrained(made)
                shutil.move(made, folder)
        return folder

    def _original(self) -> nn.Module:
        if self._reference is None:
            self._reference = load_original(self._task.source.name)[0].float()
        return self._reference

    def _with_weights(self, outcome: Outcome) -> nn.Module:
        """The original with a peer's weights in its block linears."""
        if self._candidate is None:
            self._candidate = copy.deepcopy(self._original())
        for name, shape in self._shapes.items():
            weight = outcome.weights[name]
            if tuple(weight.shape) != shape:
                raise LiftError(f"layer {name} came back as {tuple(weight.shape)}, not {shape}")
            self._candidate.get_submodule(name).weight = nn.Parameter(weight, requires_grad=False)
        return self._candidate

    def result(self) -> Comparison:
        """The entries of this run that are there, by bits."""
        entries = [read_entry(self._path(p)) for p in self.plans if self._path(p).exists()]
        return Comparison(
            model=self._task.source.name,
            text=self._task.text,
            calibration=self._task.calibration_text,
            entries=sorted(entries, key=lambda entry: entry.bits),
            missing=self.missing,
        )
