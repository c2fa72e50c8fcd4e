"""What people see: progress with an ETA, and JSON for machines.

Results go to standard output, everything else to standard error, so that ``--json`` can be piped.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# a file or a pipe has no width of its own; tables need this much
_PLAIN_WIDTH = 132

out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
err = Console(stderr=True, highlight=False, markup=False)

_LINE_EVERY = 10.0  # seconds between progress lines where there is no terminal to redraw


class Meter:
    """Progress of one long piece of work; made by `progress`."""

    def __init__(self, title: str, total: float) -> None:
        self.title = title
        self.total = total
        self.done = 0.0
        self.note = ""

    def start(self, total: float) -> None:
        """Set the total once it is known."""
        self.total = total
        self._show()

    def advance(self, amount: float, note: str | None = None) -> None:
        self.done += amount
        self.note = self.note if note is None else note
        self._show()

    def _show(self) -> None:
        """Overridden by the two ways of showing."""


class _Bar(Meter):
    def __init__(self, title: str, total: float, bars: Progress) -> None:
        super().__init__(title, total)
        self._bars = bars
        self._task = bars.add_task(title, total=total or None, note="")

    def _show(self) -> None:
        self._bars.update(self._task, total=self.total or None, completed=self.done, note=self.note)


class _Lines(Meter):
    def __init__(self, title: str, total: float) -> None:
        super().__init__(title, total)
        self._began = self._shown = time.monotonic()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown < _LINE_EVERY or not self.total or not self.done:
            return
        self._shown = now
        fraction = self.done / self.total
        left = (now - self._began) * (1 - fraction) / fraction
        err.print(f"{self.title}: {fraction:4.0%}, {left:.0f} s left  {self.note}", soft_wrap=True)


@contextmanager
def progress(title: str, total: float = 0) -> Iterator[Meter]:
    """A bar on a terminal; elsewhere a line every ten seconds, and one at the end."""
    began = time.monotonic()
    if err.is_terminal:
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=err,
        ) as bars:
            yield _Bar(title, total, bars)
    else:
        err.print(f"{title} ...")
        yield _Lines(title, total)
    err.print(f"{title}: done in {time.monotonic() - began:.1f} s")


def print_json(value: Any) -> None:
    """Indented JSON on standard output, unwrapped and uncoloured."""
    print(json.dumps(value, indent=2, allow_nan=False))
