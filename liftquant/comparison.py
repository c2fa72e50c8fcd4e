"""What a comparison found: entries, what could not be run, and their files."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from algo.errors import LiftError
from algo.evaluate import Divergence
from algo.files import read_json, write_json


@dataclass(frozen=True)
class Entry:
    """One quantised model: its size and how far it is from the original.

    Attributes:
        bits: per weight of the block linears, everything stored for them included.
        seconds: that quantising took.
        version: of the peer's package.
        note: what a reader of the table must know.
    """

    peer: str
    label: str
    bits: float
    seconds: float
    divergence: Divergence
    version: str
    note: str


@dataclass(frozen=True)
class Missing:
    """What could not be run, and why."""

    peer: str
    label: str | None
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Everything that was asked for; entries by bits."""

    model: str
    text: str
    calibration: str
    entries: list[Entry]
    missing: list[Missing]


def write_entry(path: Path, entry: Entry, dependencies: Mapping[str, Any]) -> None:
    """One file for an entry and what it depends on."""
    write_json(path, {**asdict(entry), "depends_on": dict(dependencies)})


def read_entry(path: Path) -> Entry:
    """An entry from its file.

    Raises:
        LiftError: the file holds none.
    """
    from pydantic import TypeAdapter, ValidationError

    fields = read_json(path)
    try:
        return TypeAdapter(Entry).validate_python(
            {name: fields[name] for name in Entry.__dataclass_fields__}
        )
    except (ValidationError, KeyError, TypeError):
        raise LiftError(f"{path} is no entry of a comparison; remove it to run it again") from None


def _number(value: float) -> float | None:
    """JSON has no NaN, which a standard error of one window is."""
    return value if math.isfinite(value) else None


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON values."""
    entries = []
    for entry in comparison.entries:
        d = entry.divergence
        entries.append(
            {
                "peer": entry.peer, "label": entry.label, "version": entry.version,
                "bits_per_weight": entry.bits, "seconds": entry.seconds, "note": entry.note,
                "perplexity": d.model.value,
                "perplexity_standard_error": _number(d.model.standard_error),
                "kl": d.kl, "kl_standard_error": _number(d.standard_error),
                "top1": d.top1, "top1_standard_error": _number(d.top1_error),
            }
        )  # fmt: skip
    original = comparison.entries[0].divergence.reference if comparison.entries else None
    return {
        "model": comparison.model,
        "text": comparison.text,
        "calibration": comparison.calibration,
        "original": None if original is None else {
            "perplexity": original.value, "standard_error": _number(original.standard_error),
            "predicted": original.predicted, "windows": original.windows,
            "context": original.context,
        },
        "entries": entries,
        "not_run": [asdict(missing) for missing in comparison.missing],
    }  # fmt: skip
