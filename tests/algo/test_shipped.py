import dataclasses
import json
from pathlib import Path

import pytest

from algo.errors import LiftError
from algo.learn import measure
from algo.shipped import best_code, load_code, read_code, shipped_codes

# rate, window (None: block) and the MSE that must be reached, from the project's first milestone
TARGETS = [
    ("LQ-16/8", 0.0950), ("LQ-24/10", 0.0550), ("LQ-24/8", 0.0262),
]  # fmt: skip
SLIDING = [(2.0, 12, 0.0760), (2.4, 12, 0.0445), (3.0, 12, 0.0196)]


@pytest.mark.parametrize(("name", "target"), TARGETS)
def test_block_codes_reach_their_targets(name: str, target: float) -> None:
    shipped = shipped_codes()[name]
    assert shipped.mse <= target
    assert shipped.record["mse"]["weights"] >= 1_000_000


@pytest.mark.parametrize(("rate", "window", "target"), SLIDING)
def test_sliding_codes_reach_their_targets(rate: float, window: int, target: float) -> None:
    found = [
        s for s in shipped_codes().values()
        if s.code.overlap and s.code.rate == rate and s.code.window == window
    ]  # fmt: skip
    assert found
    assert all(s.mse <= target and s.record["mse"]["weights"] >= 1_000_000 for s in found)


@pytest.mark.parametrize("rate", [2.0, 2.4, 3.0])
def test_short_windows_are_shipped_too(rate: float) -> None:
    assert any(s.code.overlap and s.code.window == 8 and s.code.rate == rate
               for s in shipped_codes().values())  # fmt: skip


@pytest.mark.parametrize("name", sorted(shipped_codes()))
def test_recorded_mse_is_found_again_on_other_samples(name: str) -> None:
    shipped = shipped_codes()[name]
    value, error = measure(shipped.code, 100_000, seed=20261121)
    spread = (error**2 + shipped.record["mse"]["standard_error"] ** 2) ** 0.5
    assert abs(value - shipped.mse) < 5 * spread


@pytest.mark.parametrize("name", sorted(shipped_codes()))
def test_shipped_file_says_how_it_was_learned(name: str) -> None:
    command = shipped_codes()[name].record["learned"]["command"]
    code = load_code(name)
    assert command.startswith("liftquant codes learn")
    assert f"--lifted {code.lifted} --group {code.group}" in command


def test_best_code_has_the_least_error_at_its_rate() -> None:
    code = best_code(2.4)
    assert code.rate == 2.4
    assert all(shipped_codes()[code.name].mse <= s.mse
               for s in shipped_codes().values() if s.code.rate == 2.4)  # fmt: skip
    with pytest.raises(
        LiftError, match=r"no shipped code has 2.55 bits .* choose one of 2, 2.4, 3"
    ):
        best_code(2.55)


def test_unknown_code_is_answered_with_those_there_are() -> None:
    with pytest.raises(LiftError, match=r"no code LQ-5/3 is shipped; there are .*LQ-24/10"):
        load_code("LQ-5/3")
    with pytest.raises(LiftError, match="is not a code name"):
        load_code("best")


def test_altered_code_file_is_refused(tmp_path: Path) -> None:
    shipped = shipped_codes()["LQ-24/10"]
    fields = json.loads(json.dumps(dict(shipped.record)))
    fields["taps"][3][4] += 1
    path = tmp_path / "code.json"
    path.write_text(json.dumps(fields))
    with pytest.raises(LiftError, match=r"code.json: the definition of LQ-24/10 hashes to"):
        read_code(path)
    path.write_text(json.dumps(fields)[:200])
    with pytest.raises(LiftError, match=r"is not valid JSON .* truncated"):
        read_code(path)
    path.write_text("[1]")
    with pytest.raises(LiftError, match="no code file"):
        read_code(path)


def test_records_are_read_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        shipped_codes()["LQ-24/10"].code = load_code("LQ-16/8")  # type: ignore[misc]
