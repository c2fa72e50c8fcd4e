"""The process that `liftquant.peer_process` starts: ``python -m liftquant.peer_child REQUEST``."""

import sys
from importlib import import_module
from pathlib import Path

from algo.checkpoint import read_tensors, save_tensors
from algo.files import read_json, write_json
from liftquant.peer import Job, Peer
from liftquant.peer_process import ANSWER, CALIBRATION, WEIGHTS


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


if __name__ == "__main__":
    carry_out(Path(sys.argv[1]))
