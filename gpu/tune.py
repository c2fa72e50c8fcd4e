"""Measure every candidate for every class of layers and number of columns; choose the best.

What runs and what measures is handed in (`Workload`, `Timer`): the logic is the same on a GPU and
in tests on a CPU with a clock of their own. A candidate is timed after its result was found equal
to the reference; one that is not is dropped and reported. Finished classes are kept in a file
beside the table, from which a run that was stopped goes on.
"""

import datetime
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from pydantic import BaseModel, ConfigDict

from algo.errors import LiftError
from gpu.timing import Timer
from gpu.tuning_table import (
    PATHS,
    Choice,
    Entry,
    LayerClass,
    Machine,
    Step,
    Timed,
    TuningTable,
    read_model,
    read_table,
    write_table,
)

MARGIN = 1.02  # a simpler candidate may be so much slower and is still taken
COLUMNS = tuple(2**i for i in range(10))  # 1 to 512


class Workload(Protocol):
    """One class of layers with so many columns, ready to run."""

    @property
    def candidates(self) -> Sequence[Choice]:
        """What is worth trying."""

    def run(self, choice: Choice) -> torch.Tensor:
        """The layer's exact result, by one choice."""

    def expected(self) -> torch.Tensor:
        """The same by the reference."""


MakeWorkload = Callable[[LayerClass, int], Workload]
OnProgress = Callable[[float, str], None]  # how many candidates were done, and where we are


class Dropped(BaseModel):
    """A candidate that is not in the table.

    Attributes:
        wrong: its result was not the reference's; otherwise it could not run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    layer: LayerClass
    columns: int
    choice: Choice
    wrong: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.layer}, {self.columns} columns: {self.choice}: {self.reason}"


class Part(BaseModel):
    """The file of a run under way: the classes it has finished."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    machine: Machine
    columns: tuple[int, ...]
    finished: tuple[LayerClass, ...] = ()
    entries: tuple[Entry, ...] = ()
    dropped: tuple[Dropped, ...] = ()


class Tuned(NamedTuple):
    """A finished run: the table as written, None if no candidate was right; what is not in it."""

    table: TuningTable | None
    dropped: tuple[Dropped, ...]

    @property
    def wrong(self) -> tuple[Dropped, ...]:
        return tuple(d for d in self.dropped if d.wrong)


def tune(
    layers: Sequence[LayerClass],
    columns: Sequence[int],
    machine: Machine,
    make: MakeWorkload,
    timer: Timer,
    path: Path,
    source: str = "liftquant kernels tune",
    on_progress: OnProgress = lambda amount, note: None,
) -> Tuned:
    """Measure and write a table.

    Classes that the table at `path` has already, from the same machine and versions, stay in it
    unless they are measured anew.

    Args:
        layers: classes to measure.
        columns: numbers of columns to measure each with, ascending; those that are no whole number
            of tokens in a class are left out there.
        machine: where this runs.
        make: makes what is run.
        timer: measures a call.
        path: the table's file; ``.partial`` is added for that of a run under way.
        source: what the table says of where it comes from.
        on_progress: called with the share of a class that was done since the last call.

    Raises:
        LiftError: nothing to measure, columns do not ascend, or a file there is is corrupt.
    """
    if not layers or not columns:
        raise LiftError("nothing to measure: give at least one shape and one number of columns")
    if list(columns) != sorted(set(columns)) or columns[0] < 1:
        raise LiftError(f"numbers of columns {list(columns)} must be positive and ascend")
    layers = list(dict.fromkeys(layers))
    for layer in layers:
        if not _whole_tokens(layer, columns):
            raise LiftError(
                f"{layer}: none of {list(columns)} columns is a whole number of tokens; use "
                f"multiples of {layer.digits}"
            )
    aside = partial_path(path)
    part = _resumed(aside, machine, tuple(columns))
    kept = _kept(path, machine, layers)
    write_table(aside, part)  # a place that cannot be written to is known before anything is run
    for layer in layers:
        if layer in part.finished:
            on_progress(1, f"{layer}: done before")
            continue
        entry, dropped = _measure_class(
            layer, _whole_tokens(layer, columns), make, timer, on_progress
        )
        part = Part(
            machine=machine,
            columns=part.columns,
            finished=(*part.finished, layer),
            entries=part.entries if entry is None else (*part.entries, entry),
            dropped=(*part.dropped, *dropped),
        )
        write_table(aside, part)
    entries = (*kept, *(e for e in part.entries if e.layer in layers))
    dropped_here = tuple(d for d in part.dropped if d.layer in layers)
    table = None
    if entries:
        table = TuningTable(
            format=1,
            kind="measured",
            machine=machine,
            date=datetime.date.today().isoformat(),
            source=source,
            entries=entries,
        )
        write_table(path, table)
    aside.unlink(missing_ok=True)
    return Tuned(table, dropped_here)


def _whole_tokens(layer: LayerClass, columns: Sequence[int]) -> list[int]:
    return [count for count in columns if count % layer.digits == 0]


def partial_path(path: Path) -> Path:
    """The file of a run under way."""
    return path.with_name(path.name + ".partial")


def best(timed: Sequence[tuple[Choice, Timed]]) -> tuple[Choice, Timed]:
    """The choice of least median; of those within `MARGIN` of it, the simplest.

    Simpler is the earlier path of `PATHS`, then the lesser split; then the median decides.
    """
    least = min(time.median for _, time in timed)
    return min(
        ((c, t) for c, t in timed if t.median <= least * MARGIN),
        key=lambda pair: (PATHS.index(pair[0].path), pair[0].split, pair[1].median),
    )


def _measure_class(
    layer: LayerClass,
    columns: Sequence[int],
    make: MakeWorkload,
    timer: Timer,
    on_progress: OnProgress,
) -> tuple[Entry | None, list[Dropped]]:
    steps, dropped = [], []
    for count in columns:
        work = make(layer, count)
        expected = work.expected()
        timed = []
        for choice in work.candidates:
            reason, wrong = None, False
            try:
                if exactly_equal(work.run(choice), expected):
                    timed.append((choice, timer(partial(work.run, choice))))
                else:
                    reason, wrong = "differs from the reference", True
            except Exception as error:  # a tile may be too large for this GPU; others may not be
                reason = (
                    f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                )
            if reason is not None:
                dropped.append(
                    Dropped(layer=layer, columns=count, choice=choice, wrong=wrong, reason=reason)
                )
            on_progress(
                1 / (len(columns) * len(work.candidates)), f"{layer}, {count} columns, {choice}"
            )
        if timed:
            choice, time = best(timed)
            steps.append(Step(columns=count, choice=choice, microseconds=time))
    return (Entry(layer=layer, steps=tuple(steps)) if steps else None), dropped


def exactly_equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether shape, dtype and every value are the same; NaN equals nothing."""
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b.to(a.device))


def _resumed(aside: Path, machine: Machine, columns: tuple[int, ...]) -> Part:
    """The part that a run with the same settings left, or an empty one."""
    fresh = Part(machine=machine, columns=columns)
    if not aside.is_file():
        return fresh
    part = read_model(aside, Part)
    return part if (part.machine, part.columns) == (machine, columns) else fresh


def _kept(path: Path, machine: Machine, layers: Sequence[LayerClass]) -> tuple[Entry, ...]:
    """Entries of the table there is that stay."""
    if not path.is_file():
        return ()
    table = read_table(path)
    if table.machine != machine:
        return ()
    return tuple(e for e in table.entries if e.layer not in layers)
