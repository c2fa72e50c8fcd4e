"""Waveforms as plain values: a clock, wires and buses over chosen cycles, with marks."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Wire:
    """One bit: 0, 1, or None where it is unknown, for every cycle."""

    name: str
    levels: Sequence[int | None]


@dataclass(frozen=True)
class Value:
    """What a bus carries; equal values in a row are drawn as one.

    Attributes:
        text: written into it.
        beat: tells values apart that read the same.
        tint: number of its colour.
        wrong: drawn in red.
    """

    text: str
    beat: int = 0
    tint: int = 0
    wrong: bool = False


@dataclass(frozen=True)
class Bus:
    """Values for every cycle, None where there is none that counts.

    `moved` are the cycles at whose end, a rising clock edge, a beat was transferred.
    """

    name: str
    values: Sequence[Value | None]
    moved: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Span:
    """An arrow from the edge that ends cycle `first` to the one that ends cycle `last`."""

    first: int
    last: int
    text: str


@dataclass(frozen=True)
class Band:
    """Cycles from `first` to `last`, marked from top to bottom."""

    first: int
    last: int
    text: str
    wrong: bool = False


@dataclass(frozen=True)
class Panel:
    """Cycles drawn side by side: runs without a gap, in order, and a gap between two runs."""

    title: str
    runs: tuple[range, ...]


@dataclass(frozen=True)
class Waveform:
    """A whole picture. Cycles are indices into the rows.

    Attributes:
        title: what it shows, in one line.
        clock: name of the clock; None draws none.
        rows: from top to bottom.
        panels: one below the other.
        origin: the cycle that is numbered 0.
        marks: arrows and bands; parts outside of the panels are left out.
        notes: lines below.
    """

    title: str
    clock: str | None
    rows: tuple[Wire | Bus, ...]
    panels: tuple[Panel, ...]
    origin: int = 0
    marks: tuple[Span | Band, ...] = ()
    notes: tuple[str, ...] = ()
