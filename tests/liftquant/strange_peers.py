"""Peers that misbehave, by their option `how`; run in processes of their own."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from liftquant.peer import Job, Outcome, Setting, Shapes

PACKAGE = None
CALIBRATED = True


def settings(shapes: Shapes) -> list[Setting]:
    return [Setting(how, 2.0 + i / 8, {"how": how}, how) for i, how in enumerate(_WAYS)]


def _raise(job: Job) -> Outcome:
    Path("litter").touch()
    print("a word before the end")
    raise ValueError("no more\n of this")


def _die(job: Job) -> Outcome:
    os._exit(9)


def _wait(job: Job) -> Outcome:
    """For ever."""
    threading.Event().wait()
    raise AssertionError


def _flatten(job: Job) -> Outcome:
    return Outcome({name: torch.zeros(3) for name in job.linears}, 1)


def _zero(job: Job) -> Outcome:
    """The calibration tokens' sum comes back as the size."""
    from algo.source import open_source

    weights = {n: torch.zeros_like(w) for n, w in open_source(str(job.model)).linear_weights()}
    return Outcome(weights, int(job.calibration.sum()), "all zeros")


_WAYS = {"raise": _raise, "die": _die, "flatten": _flatten, "zero": _zero}
_UNLISTED = {"wait": _wait}


def quantise(job: Job, options: Mapping[str, Any]) -> Outcome:
    return (_WAYS | _UNLISTED)[options["how"]](job)
