import subprocess
import sys
from pathlib import Path

import pytest
import torch

from algo.errors import LiftError
from algo.files import write_json
from algo.layer_tensors import save_tensors
from algo.source import open_source
from liftquant.peer import Job
from liftquant.peer_child import ORPHANED
from liftquant.peer_process import run_peer

STRANGE = "tests.liftquant.strange_peers"


@pytest.fixture
def job(tiny_llama: Path, tmp_path: Path) -> Job:
    return Job(tiny_llama, open_source(str(tiny_llama)).linears, torch.ones(2, 3).long(), tmp_path)


def test_answer_comes_back(job: Job, tmp_path: Path) -> None:
    outcome = run_peer(STRANGE, job, {"how": "zero"}, tmp_path / "log")
    assert list(outcome.weights) == sorted(job.linears)
    assert not any(w.any() for w in outcome.weights.values())
    assert (outcome.stored_bytes, outcome.note) == (6, "all zeros")
    assert [p.name for p in tmp_path.iterdir()] == ["log"]


def test_reason_is_told_and_the_rest_is_in_the_log(job: Job, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "one.log"
    with pytest.raises(LiftError, match=r"ValueError: no more of this \(its output is in .*log"):
        run_peer(STRANGE, job, {"how": "raise"}, log)
    assert "a word before the end" in log.read_text()
    assert not Path("litter").exists()
    assert [p.name for p in tmp_path.rglob("*")] == ["logs", "one.log"]
    assert "Traceback" in log.read_text()


def test_death_is_told(job: Job, tmp_path: Path) -> None:
    with pytest.raises(LiftError, match="ended without an answer"):
        run_peer(STRANGE, job, {"how": "die"}, tmp_path / "log")


def test_child_does_not_outlive_an_interrupt(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def start(arguments: list[str], **options: object) -> object:
        # one that would run for ever
        child = popen(["sleep", "inf"], **options)  # type: ignore[call-overload]
        started.append(child)
        return child

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.Popen", start)
    monkeypatch.setattr("liftquant.peer_process._WAIT", 0.01)
    with pytest.raises(KeyboardInterrupt):
        run_peer(STRANGE, job, {"how": "zero"}, tmp_path / "log", interrupt)
    assert started[0].returncode == -9


def test_child_ends_with_a_parent_that_is_killed(job: Job, tmp_path: Path) -> None:
    """The parent's end of standard input closes, whatever ends the parent."""
    request = tmp_path / "request.json"
    fields = {"module": STRANGE, "options": {"how": "wait"}, "model": str(job.model)}
    write_json(request, {**fields, "linears": [], "scratch": str(tmp_path)})
    save_tensors(tmp_path / "calibration.safetensors", {"tokens": job.calibration})
    command = [sys.executable, "-m", "liftquant.peer_child", str(request)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        child.stdin.close()
        try:
            assert child.wait(60) == ORPHANED
        finally:
            child.kill()
