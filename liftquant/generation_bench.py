"""Speed and memory of models that generate, measured side by side.

Every model is in a process of its own, so that memory is its own. One computes at a time, in turns,
so that what else the machine does meets all of them alike.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from algo.errors import LiftError
from liftquant.generation_process import GenerationProcess


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        prompt_tokens: of the prompt, the beginning of the built-in text.
        new_tokens: made in every round, two at least.
        rounds: of every model.
        dtype: of what is not quantised: float32 or bfloat16.
        integers: digits of activations in quantised layers, a8 or a15; None for what each
            checkpoint says.
        threads: None for all cores.
    """

    prompt_tokens: int
    new_tokens: int
    rounds: int
    dtype: str
    integers: str | None
    threads: int | None


@dataclass(frozen=True)
class Spread:
    """Median, 20th and 80th percentile."""

    median: float
    p20: float
    p80: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        p20, median, p80 = np.percentile(values, (20, 50, 80)).tolist()
        return cls(median, p20, p80)


@dataclass
class Measured:
    """One model's results.

    Attributes:
        model: as the user named it.
        integers: a8 or a15; None where nothing is quantised.
        note: what was done to it before, if anything.
        weights_bytes: of parameters and buffers.
        before_loading_bytes: resident before the model was loaded: Python, torch, transformers.
        resident_bytes, peak_bytes: of the process after all rounds.
        load_seconds: reading the model.
        warm_up_seconds: a first prompt and four tokens.
        prefill_seconds: of every round, from the prompt to the first token.
        tokens_per_second: of every round, after the first token.
    """

    model: str
    integers: str | None = None
    note: str = ""
    weights_bytes: int = 0
    before_loading_bytes: int = 0
    resident_bytes: int = 0
    peak_bytes: int = 0
    load_seconds: float = 0.0
    warm_up_seconds: float = 0.0
    prefill_seconds: list[float] = field(default_factory=list)
    tokens_per_second: list[float] = field(default_factory=list)

    @property
    def start_up_seconds(self) -> float:
        return self.load_seconds + self.warm_up_seconds

    @property
    def prefill(self) -> Spread:
        return Spread.of(self.prefill_seconds)

    @property
    def decode(self) -> Spread:
        return Spread.of(self.tokens_per_second)


@dataclass(frozen=True)
class Result:
    """All models, the first one being what the others are compared with."""

    settings: Settings
    environment: dict[str, Any]
    models: list[Measured]

    def labels(self) -> list[str]:
        """Short names: the last parts of the paths, where they differ."""
        short = [Path(row.model).name or row.model for row in self.models]
        return short if len(set(short)) == len(short) else [row.model for row in self.models]

    def as_json(self) -> dict[str, Any]:
        first = self.models[0]
        rows = [
            {
                **asdict(row),
                "start_up_seconds": row.start_up_seconds,
                "prefill": asdict(row.prefill),
                "decode": asdict(row.decode),
                "times_the_first": {
                    "prefill_seconds": row.prefill.median / first.prefill.median,
                    "tokens_per_second": row.decode.median / first.decode.median,
                    "peak_bytes": row.peak_bytes / first.peak_bytes,
                    "weights_bytes": row.weights_bytes / first.weights_bytes,
                },
            }
            for row in self.models
        ]
        return {"settings": asdict(self.settings), "environment": self.environment, "models": rows}


def measure(
    models: Sequence[str], settings: Settings, advance: Callable[[float, str], None]
) -> Result:
    """Load all models, then let them generate in turns.

    Args:
        models: checkpoints and originals as `liftquant.served_model.open_served` takes them; a
            .gguf file is written as a bfloat16 directory first, by another process, so that all
            are loaded alike. Kernels, too, are compiled by another process.
        settings: what is measured.
        advance: told of steps done, `steps` in all, and what the next is.

    Raises:
        LiftError: a model cannot be loaded or does not take the prompt, or a process broke.
    """
    with ExitStack() as open_ones:
        rows, children = [], []
        advance(0, "kernels")
        with GenerationProcess("the kernels' process") as child:
            child.ask("kernels")  # where they are not in numba's cache: compilers need memory
        prompt: list[int] = []
        vocabulary = threads = 0
        for name in models:
            advance(0, f"starting {name}")
            row = Measured(name)
            path = _directory(row, open_ones)
            child = open_ones.enter_context(GenerationProcess(name))
            told = child.ask(
                "load", model=path, dtype=settings.dtype, integers=settings.integers,
                threads=settings.threads, name=name,
            )  # fmt: skip
            if not prompt:
                prompt = child.ask("prompt", text=_text(), count=settings.prompt_tokens)["tokens"]
                vocabulary, threads = told["vocabulary"], told["threads"]
            if told["vocabulary"] != vocabulary:
                raise LiftError(
                    f"{name} has a vocabulary of {told['vocabulary']:,} tokens, {models[0]} one of "
                    f"{vocabulary:,}; measure models of one family together"
                )
            row.load_seconds, row.weights_bytes = told["load_seconds"], told["weights_bytes"]
            row.integers = told["integers"]
            row.before_loading_bytes = told["before_loading_bytes"]
            warm = child.ask("warm_up", tokens=prompt, new=settings.new_tokens)
            row.warm_up_seconds = warm["warm_up_seconds"]
            rows.append(row)
            children.append(child)
            advance(1, "")
        for number in range(settings.rounds):
            for row, child in zip(rows, children, strict=True):
                advance(0, f"round {number + 1}, {row.model}")
                told = child.ask("round", tokens=prompt, new=settings.new_tokens)
                row.prefill_seconds.append(told["prefill_seconds"])
                row.tokens_per_second.append(told["tokens_per_second"])
                advance(1, "")
        for row, child in zip(rows, children, strict=True):
            told = child.ask("memory")
            row.resident_bytes, row.peak_bytes = told["resident_bytes"], told["peak_bytes"]
    return Result(settings, _environment(threads), rows)


def steps(models: int, rounds: int) -> int:
    """How far `measure` counts."""
    return models * (1 + rounds)


def _directory(row: Measured, open_ones: ExitStack) -> str:
    """Where the model is loaded from; a .gguf file is turned into a directory."""
    path = Path(row.model)
    if not (path.is_file() and path.suffix == ".gguf"):
        return str(path.absolute()) if path.exists() else row.model
    folder = open_ones.enter_context(tempfile.TemporaryDirectory(prefix="liftquant."))
    with GenerationProcess(row.model) as child:
        child.ask("save", model=str(path.absolute()), folder=folder)
    row.note = (
        "read from a bfloat16 directory that another process wrote, so that its memory is not that "
        "of reading GGUF"
    )
    return folder


def _text() -> str:
    from algo.text import evaluation_text

    return evaluation_text()


def _environment(threads: int) -> dict[str, Any]:
    from gpu.machine import package_version

    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "threads": threads,
        "versions": {name: package_version(name) for name in ("torch", "transformers")},
    }


def _processor() -> str:
    """What Linux calls it, or the kind of processor."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
