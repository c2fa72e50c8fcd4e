"""Runs a setting of a peer in a process of its own, which `liftquant.peer_child` carries out.

Peers' packages write to the terminal, change global settings and keep memory; there they may. The
request is a JSON file, and the answer two files beside it: ``weights.safetensors`` and
``answer.json``. A failure leaves ``answer.json`` with its reason.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from algo.errors import LiftError
from algo.files import read_json, write_json
from algo.layer_tensors import read_tensors, save_tensors
from liftquant.peer import Job, Outcome

REQUEST = "request.json"
ANSWER = "answer.json"
WEIGHTS = "weights.safetensors"
CALIBRATION = "calibration.safetensors"

_WAIT = 5.0  # seconds between signs of life while a peer works


def run_peer(
    module: str,
    job: Job,
    options: Mapping[str, Any],
    log: Path,
    alive: Callable[[], None] = lambda: None,
) -> Outcome:
    """Carry out one setting.

    Args:
        module: the peer's module, by its name.
        job: what every peer is given.
        options: of the setting.
        log: file for what the peer writes to the terminal.
        alive: called every few seconds while it works.

    Raises:
        LiftError: it failed; the message names the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=job.scratch, prefix="job.") as name:
        folder = Path(name)
        save_tensors(folder / CALIBRATION, {"tokens": job.calibration})
        write_json(
            folder / REQUEST,
            {
                "module": module, "options": dict(options), "model": str(job.model.absolute()),
                "linears": list(job.linears), "scratch": str(job.scratch.absolute()),
            },
        )  # fmt: skip
        with log.open("w", encoding="utf-8") as stream:
            _wait(folder / REQUEST, stream, alive)
        if not (folder / ANSWER).exists():
            raise LiftError(f"its process ended without an answer (its output is in {log})")
        answer = read_json(folder / ANSWER)
        if "reason" in answer:
            raise LiftError(f"{answer['reason']} (its output is in {log})")
        return Outcome(read_tensors(folder / WEIGHTS), answer["stored_bytes"], answer["note"])


def start_module(module: str, *arguments: str, **options: Any) -> "subprocess.Popen[Any]":
    """Start ``python -m module``, with the packages that this process sees.

    Args:
        module: by its name.
        arguments: its command line.
        options: of `subprocess.Popen`. Standard input is a pipe, whose end tells the child that
            this process is gone.
    """
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in sys.path)},
        **options,
    )


def _wait(request: Path, stream: Any, alive: Callable[[], None]) -> None:
    """Run the child to its end; it stops when this process does, however that ends."""
    with start_module(
        "liftquant.peer_child", str(request.absolute()), stdout=stream, stderr=subprocess.STDOUT,
        cwd=request.parent,  # some packages write logs into the working directory
    ) as child:  # fmt: skip
        try:
            while True:
                try:
                    child.wait(_WAIT)
                    return
                except subprocess.TimeoutExpired:
                    alive()
        except BaseException:
            child.kill()
            raise
