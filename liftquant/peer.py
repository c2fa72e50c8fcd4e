"""What a comparison runs: a quantiser with settings, the job it is given, what it hands back.

A peer is a module with these names:

    PACKAGE      the distribution it needs, None for one of ours
    CALIBRATED   whether its result depends on the calibration text
    settings     every setting worth running on a model, with the bits to be expected
    quantise     one setting, carried out

Every peer quantises the same tensors: the weights of the linear layers in the model's blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

Shapes = Mapping[str, tuple[int, int]]  # (outputs, inputs) by layer


@dataclass(frozen=True)
class Setting:
    """One way to run a peer.

    Attributes:
        label: what the table calls it.
        bits: per weight, as expected beforehand; only used to choose settings near a size.
        options: what `quantise` is told; JSON values.
        family: settings are chosen within their family, so that every kind is shown.
    """

    label: str
    bits: float
    options: Mapping[str, Any]
    family: str = ""


@dataclass(frozen=True)
class Job:
    """What every peer is given.

    Attributes:
        model: a Hugging Face directory with the original model in float32.
        linears: the layers to quantise.
        calibration: int64 ``(windows, context)``: tokens to calibrate with.
        scratch: a directory for the peer's own files, kept between settings.
    """

    model: Path
    linears: Sequence[str]
    calibration: torch.Tensor
    scratch: Path


@dataclass(frozen=True)
class Outcome:
    """What a peer made of a model.

    Attributes:
        weights: float32 ``(outputs, inputs)`` by layer: what the stored weights stand for.
        stored_bytes: what those layers take as stored, scales and zeros included.
        note: what a reader of the table must know.
    """

    weights: dict[str, torch.Tensor] = field(repr=False)
    stored_bytes: int
    note: str = ""


class Peer(Protocol):
    """A peer's module."""

    PACKAGE: str | None
    CALIBRATED: bool

    def settings(self, shapes: Shapes) -> list[Setting]:
        """Settings worth running on layers of these shapes."""

    def quantise(self, job: Job, options: Mapping[str, Any]) -> Outcome:
        """Quantise every layer of `job.linears`."""


_REACH = 0.6  # bits: a setting farther from a size says nothing about it


def settings_near(settings: Sequence[Setting], sizes: Sequence[float]) -> list[Setting]:
    """For each size and family the nearest setting at or above it and the nearest below."""
    chosen: set[int] = set()
    for family in {s.family for s in settings}:
        mine = [i for i, s in enumerate(settings) if s.family == family]
        for size in sizes:
            above = [i for i in mine if 0 <= settings[i].bits - size <= _REACH]
            below = [i for i in mine if 0 < size - settings[i].bits <= _REACH]
            chosen.update(sorted(above, key=lambda i: settings[i].bits)[:1])
            chosen.update(sorted(below, key=lambda i: -settings[i].bits)[:1])
    return [settings[i] for i in sorted(chosen)]
