"""One setting of one peer in a process of its own: ``python -m liftquant.peer_child REQUEST``.

Peers' packages write to the terminal, change global settings and keep memory; here they may. The
request is a JSON file, and the answer two files beside it: ``weights.safetensors`` and
``answer.json``. A failure leaves ``answer.json`` with its reason.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from algo.checkpoint import read_tensors, save_tensors
from algo.files import read_json, write_json
from liftquant.peer import Job, Outcome, Peer

REQUEST = "request.json"
ANSWER = "answer.json"
WEIGHTS = "weights.safetensors"
CALIBRATION = "calibration.safetensors"


def write_request(folder: Path, module: str, job: Job, options: dict[str, Any]) -> Path:
    """Lay out a request in an empty folder; its path."""
    save_tensors(folder / CALIBRATION, {"tokens": job.calibration})
    path = folder / REQUEST
    write_json(
        path,
        {
            "module": module, "options": options, "model": str(job.model.absolute()),
            "linears": list(job.linears), "scratch": str(job.scratch.absolute()),
        },
    )  # fmt: skip
    return path


def carry_out(request: Path) -> None:
    """Run the peer, leave the answer."""
    fields = read_json(request)
    folder = request.parent
    peer: Peer = import_module(fields["module"])  # type: ignore[assignment]
    job = Job(
        Path(fields["model"]), fields["linears"],
        read_tensors(folder / CALIBRATION)["tokens"], Path(fields["scratch"]),
    )  # fmt: skip
    try:
        outcome = peer.quantise(job, fields["options"])
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        write_json(folder / ANSWER, {"reason": reason[:300]})
        raise
    save_tensors(folder / WEIGHTS, outcome.weights)
    write_json(folder / ANSWER, {"stored_bytes": outcome.stored_bytes, "note": outcome.note})


def read_answer(folder: Path) -> Outcome | str:
    """What the child made, or the reason why it made nothing."""
    if not (folder / ANSWER).exists():
        return "its process ended without an answer"
    answer = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
    if "reason" in answer:
        return str(answer["reason"])
    return Outcome(read_tensors(folder / WEIGHTS), answer["stored_bytes"], answer["note"])


if __name__ == "__main__":
    carry_out(Path(sys.argv[1]))
