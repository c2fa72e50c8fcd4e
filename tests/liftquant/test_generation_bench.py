"""What is asked of the processes, in which order, and what is made of their answers."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import pytest

from algo.errors import LiftError
from liftquant import generation_bench
from liftquant.console import out
from liftquant.generation_bench import Settings, Spread, measure, steps
from liftquant.generation_bench_plot import plot
from liftquant.generation_bench_table import beginnings, bench_table

KERNELS = "the kernels' process"
SETTINGS = Settings(3, 8, 2, "bfloat16", None, None)


class _Process:
    """A child that answers at once, with numbers that depend on its model and round."""

    asked: ClassVar[list[tuple[str, str]]] = []
    vocabularies: ClassVar[dict[str, int]] = {}

    def __init__(self, name: str) -> None:
        self.name = name
        self.rounds = 0

    def __enter__(self) -> "_Process":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.asked.append((self.name, "gone"))

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        self.asked.append((self.name, do))
        scale = 1 if self.name.endswith("a") else 2
        if do == "save":
            (Path(fields["folder"]) / "config.json").touch()
        if do == "load":
            self.loaded = fields["model"]
        if do == "round":
            assert fields == {"tokens": [7, 8, 9], "new": 8}
            self.rounds += 1
        return {
            "kernels": {},
            "save": {},
            "load": {
                "load_seconds": 1.5, "before_loading_bytes": 100 * 2**20, "threads": 2,
                "weights_bytes": 2**30 // scale, "integers": None,
                "vocabulary": self.vocabularies.get(self.name, 96),
            },
            "prompt": {"tokens": [7, 8, 9]},
            "warm_up": {"warm_up_seconds": 0.5},
            "round": {"prefill_seconds": scale * self.rounds, "tokens_per_second": 10.0 * scale},
            "memory": {"resident_bytes": 2**31, "peak_bytes": 2**32 // scale},
        }[do]  # fmt: skip


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> type[_Process]:
    monkeypatch.setattr(generation_bench, "GenerationProcess", _Process)
    monkeypatch.setattr(_Process, "asked", [])
    monkeypatch.setattr(_Process, "vocabularies", {})
    return _Process


def test_models_take_turns(processes: type[_Process]) -> None:
    done: list[float] = []
    measure(["a", "b"], SETTINGS, lambda amount, _: done.append(amount))
    assert processes.asked == [
        (KERNELS, "kernels"), (KERNELS, "gone"), ("a", "load"), ("a", "prompt"),
        ("a", "warm_up"), ("b", "load"), ("b", "warm_up"),
        ("a", "round"), ("b", "round"), ("a", "round"), ("b", "round"),
        ("a", "memory"), ("b", "memory"), ("b", "gone"), ("a", "gone"),
    ]  # fmt: skip
    assert sum(done) == steps(2, 2) == 6


def test_ratios_are_to_the_first() -> None:
    result = measure(["a", "b"], SETTINGS, lambda *_: None)
    found = json.loads(json.dumps(result.as_json(), allow_nan=False))
    first, second = found["models"]
    assert first["times_the_first"] == dict.fromkeys(first["times_the_first"], 1.0)
    assert second["times_the_first"] == {
        "prefill_seconds": 2.0, "tokens_per_second": 2.0, "peak_bytes": 0.5, "weights_bytes": 0.5,
    }  # fmt: skip
    assert second["prefill_seconds"] == [2, 4]
    assert second["prefill"] == {
        "median": 3.0,
        "p20": pytest.approx(2.4),
        "p80": pytest.approx(3.6),
    }
    assert second["start_up_seconds"] == 2.0


def test_spread_is_median_and_percentiles() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0, 6.0]) == Spread(3.5, 2.0, 5.0)
    assert Spread.of([4.0]) == Spread(4.0, 4.0, 4.0)


def test_gguf_is_turned_into_a_directory_by_another_process(
    processes: type[_Process], tmp_path: Path
) -> None:
    file = tmp_path / "m-a.gguf"
    file.touch()
    result = measure([str(file)], SETTINGS, lambda *_: None)
    name = str(file)
    assert processes.asked[2:5] == [(name, "save"), (name, "gone"), (name, "load")]
    assert "read from a bfloat16 directory that another process wrote" in result.models[0].note
    assert result.models[0].model == name


def test_models_of_two_vocabularies_are_refused(processes: type[_Process]) -> None:
    processes.vocabularies["b"] = 97
    with pytest.raises(LiftError, match="b has a vocabulary of 97 tokens, a one of 96"):
        measure(["a", "b"], SETTINGS, lambda *_: None)
    assert processes.asked[-2:] == [("b", "gone"), ("a", "gone")]


def test_table_and_picture_show_every_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = measure(["x/a", "y/b"], SETTINGS, lambda *_: None)
    out.print(bench_table(result))
    shown = capsys.readouterr().out
    assert "20.0 (20.0-20.0)" in shown
    assert "512.00 MiB" in shown
    assert "100.00 MiB" in beginnings(result)
    plot(result, tmp_path / "p.svg")
    drawn = (tmp_path / "p.svg").read_text()
    assert "<svg" in drawn
    plot(result, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == drawn
    assert result.labels() == ["a", "b"]
    assert measure(["x/a", "y/a"], SETTINGS, lambda *_: None).labels() == ["x/a", "y/a"]
