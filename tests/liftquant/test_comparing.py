import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from algo.evaluate import perplexity
from algo.model import load_original
from algo.source import open_source
from liftquant import comparing
from liftquant.comparing import OURS, Run, Task

TOKENS = torch.randint(96, (5, 16), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def task(reading_llama: Path) -> Task:
    source = open_source(str(reading_llama))
    return Task(source, "noise", TOKENS[:2], "other noise", TOKENS[2:], batch=2)


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(comparing.PEERS, "strange", "tests.liftquant.strange_peers")


def _carried_out(task: Task, folder: Path, sizes: list[float], peers: list[str]) -> Run:
    run = Run(task, folder)
    run.plan(sizes, peers)
    seen: list[float] = []
    pending = len(run.pending)
    run.carry_out(lambda part, _: seen.append(part))
    assert sum(seen) == pytest.approx(pending)
    return run


def test_ours_and_a_peer_side_by_side(task: Task, tmp_path: Path, reading_llama: Path) -> None:
    result = _carried_out(task, tmp_path, [2.4], ["rtn"]).result()
    assert not result.missing
    assert [e.bits for e in result.entries] == sorted(e.bits for e in result.entries)
    by_peer = {e.peer: e for e in result.entries}
    assert by_peer.keys() == {OURS, "rtn"}
    assert by_peer[OURS].bits > 2.4
    original = perplexity(load_original(str(reading_llama))[0], task.windows)
    for entry in result.entries:
        assert entry.divergence.reference.value == pytest.approx(original.value, rel=1e-6)
        assert entry.divergence.kl > 0
    # INT2 group 32 on rows of 48 and 80 inputs: groups of 32 and what is left
    rtn = next(e for e in result.entries if e.label == "INT2 group 32")
    weights = [w.shape for _, w in task.source.linear_weights()]
    bits = sum(r * (2 * c + -(-c // 32) * 18) for r, c in weights)
    assert rtn.bits == pytest.approx(bits / sum(r * c for r, c in weights), abs=1e-3)


def test_failures_are_listed_and_the_rest_goes_on(
    task: Task, tmp_path: Path, strange: None
) -> None:
    result = _carried_out(task, tmp_path, [2.0], ["strange"]).result()
    assert {(e.peer, e.label) for e in result.entries} == {(OURS, "2 bits"), ("strange", "zero")}
    reasons = {m.label: m.reason for m in result.missing}
    assert "ValueError: no more of this" in reasons["raise"]
    assert "ended without an answer" in reasons["die"]
    assert "came back as (3,), not (48, 48)" in reasons["flatten"]
    zero = next(e for e in result.entries if e.label == "zero")
    weights = sum(w.numel() for _, w in task.source.linear_weights())
    assert zero.bits == int(task.calibration.sum()) * 8 / weights
    assert zero.note == "all zeros"


def test_size_without_a_code_is_listed(task: Task, tmp_path: Path) -> None:
    run = _carried_out(task, tmp_path, [5.0], [])
    (missing,) = run.result().missing
    assert (missing.peer, missing.label) == (OURS, "5 bits")
    assert "5 bits per weight are outside what the shipped codes" in missing.reason


def test_peer_that_is_not_installed_is_listed(
    task: Task, tmp_path: Path, strange: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.liftquant.strange_peers.PACKAGE", "surely-not-installed")
    run = Run(task, tmp_path)
    run.plan([], ["strange"])
    (missing,) = run.missing
    assert "the package surely-not-installed is not installed: pip install" in missing.reason
    assert not run.plans


def test_finished_entries_are_reused(task: Task, tmp_path: Path, strange: None) -> None:
    first = _carried_out(task, tmp_path, [2.4], ["rtn"])
    again = Run(task, tmp_path)
    again.plan([2.4], ["rtn"])
    assert again.pending == []
    assert again.result() == first.result()


def test_entries_are_made_again_for_what_they_depend_on(task: Task, tmp_path: Path) -> None:
    _carried_out(task, tmp_path, [2.4], ["rtn"])
    other = Run(replace(task, calibration=TOKENS[:1]), tmp_path)
    other.plan([2.4], ["rtn"])
    assert {plan.peer for plan in other.pending} == {OURS}  # rtn looks at no calibration text
    other = Run(replace(task, windows=TOKENS[1:2]), tmp_path)
    other.plan([2.4], ["rtn"])
    assert len(other.pending) == len(other.plans)


def test_stopped_run_keeps_our_checkpoint(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(comparing, "compare_logits", stop)
        with pytest.raises(KeyboardInterrupt):
            _carried_out(task, tmp_path, [2.4], [])
    made = [p.stat().st_mtime_ns for p in tmp_path.rglob("liftquant.json")]
    assert len(made) == 1
    result = _carried_out(task, tmp_path, [2.4], []).result()
    assert len(result.entries) == 1
    assert [p.stat().st_mtime_ns for p in tmp_path.rglob("liftquant.json")] == made


def test_damaged_entry_is_named(task: Task, tmp_path: Path) -> None:
    run = _carried_out(task, tmp_path, [2.4], [])
    (file,) = (tmp_path / "entries").iterdir()
    fields = json.loads(file.read_text())
    del fields["divergence"]["kl"]
    file.write_text(json.dumps(fields))
    with pytest.raises(comparing.LiftError, match="is no entry of a comparison"):
        run.result()
