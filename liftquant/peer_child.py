"""The process that `liftquant.peer_process` starts: ``python -m liftquant.peer_child REQUEST``."""

import os
import sys
import threading
from importlib import import_module
from pathlib import Path

from algo.files import read_json, write_json
from algo.layer_tensors import read_tensors, save_tensors
from liftquant.peer import Job, Peer
from liftquant.peer_process import ANSWER, CALIBRATION, WEIGHTS

ORPHANED = 3  # exit status of a child whose parent is gone


def carry_out(request: Path) -> None:
    """Run the peer, leave the answer beside the request."""
    fields = read_json(request)
    folder = request.parent
    peer: Peer = import_module(fields["module"])
    tokens = read_tensors(folder / CALIBRATION)["tokens"]
    job = Job(Path(fields["model"]), fields["linears"], tokens, Path(fields["scratch"]))
    try:
        outcome = peer.quantise(job, fields["options"])
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        write_json(folder / ANSWER, {"reason": reason[:300]})
        raise
    save_tensors(folder / WEIGHTS, outcome.weights)
    write_json(folder / ANSWER, {"stored_bytes": outcome.stored_bytes, "note": outcome.note})


def _stop_with_parent() -> None:
    """End this process when standard input does: the parent holds its other end."""
    sys.stdin.buffer.read()
    os._exit(ORPHANED)


if __name__ == "__main__":
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    carry_out(Path(sys.argv[1]))
