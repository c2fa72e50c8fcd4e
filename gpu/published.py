"""Decoding speeds that others published: what was read, where, and as it stands there."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from algo.errors import LiftError
from algo.files import read_json

FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Published:
    """One figure.

    Attributes:
        id: name of its own.
        method: format, ``fp16`` for 16 bits of either kind.
        model: a key of `gpu.llama_models.MODELS` whose shapes it has; None for others.
        stated_model: as the source names it.
        gpu: a key of `gpu.speed_checks.all_gpus`; None where the source does not name one.
        stated_gpu: as the source names it.
        bits: per weight as the source names the format.
        stored_bits: per weight of the blocks, scales of groups included; None if unknown.
        head_bits: of the output layer; None if unknown.
        batch: sequences at a time.
        context: tokens attended to, about the middle of what was generated; None if not stated.
        tokens_per_second: of all sequences together.
        stated: the number as it stands.
        url: where.
        where: table or section.
        note: what differs from others.
    """

    id: str
    method: str
    model: str | None
    stated_model: str
    gpu: str | None
    stated_gpu: str
    bits: float
    stored_bits: float | None
    head_bits: float | None
    batch: int
    context: int | None
    tokens_per_second: float
    stated: str
    url: str
    where: str
    note: str


@dataclass(frozen=True)
class NotFound:
    """A pair of method and GPU without a figure, and where it was looked for."""

    method: str
    gpu: str
    looked: str


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "float": (float, int),
    "float | None": (float, int, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
}


def _read(kind: type, entry: Any, where: str) -> Any:
    """`entry` as `kind`: exactly its fields, of their types, texts not empty, numbers positive."""
    known = {field.name: str(getattr(field.type, "__name__", field.type)) for field in fields(kind)}
    if not isinstance(entry, dict) or set(entry) != set(known):
        raise LiftError(f"{where}: an entry must have exactly the fields {', '.join(known)}")
    for name, value in entry.items():
        if type(value) not in _TYPES[known[name]]:
            raise LiftError(f"{where}: {name} is {value!r}, which is no {known[name]}")
        if value == "" and name != "note":
            raise LiftError(f"{where}: {name} is empty")
        if isinstance(value, float | int) and not value > 0:
            raise LiftError(f"{where}: {name} must be positive, not {value}")
    return kind(**entry)


def read_published(file: Path) -> tuple[tuple[Published, ...], tuple[NotFound, ...]]:
    """Figures, and what was not found.

    Raises:
        LiftError: the file is missing or damaged, an entry lacks a field or has one more, a source
            is no address, or an id repeats.
    """
    content = read_json(file)
    if not isinstance(content, dict) or set(content) != {"about", "figures", "not_found"}:
        raise LiftError(f"{file} must hold about, figures and not_found, nothing else")
    figures = tuple(_each(Published, content["figures"], f"{file}, figure"))
    missing = tuple(_each(NotFound, content["not_found"], f"{file}, not found"))
    ids = [figure.id for figure in figures]
    for figure in figures:
        if not figure.url.startswith("https://"):
            raise LiftError(f"{file}: the source of {figure.id} is no address: {figure.url!r}")
        if ids.count(figure.id) > 1:
            raise LiftError(f"{file}: the id {figure.id} is there twice")
    return figures, missing


def _each(kind: type, entries: Any, where: str) -> Iterator[Any]:
    if not isinstance(entries, list):
        raise LiftError(f"{where}: a list was expected")
    for n, entry in enumerate(entries):
        yield _read(kind, entry, f"{where} {n}")


@cache
def published() -> tuple[Published, ...]:
    """The figures that come with the package."""
    return read_published(FILE)[0]


@cache
def not_found() -> tuple[NotFound, ...]:
    """What was looked for and not found."""
    return read_published(FILE)[1]
