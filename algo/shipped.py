"""The codes that ship with the package, one JSON file each in ``algo/codes``.

A file holds the code's definition and hash, how it was learned (the command and its settings) and
the MSE measured on N(0, 1) with the integer taps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from algo.code import LiftCode, parse_name
from algo.errors import LiftError
from algo.files import read_json

_FOLDER = Path(__file__).parent / "codes"


@dataclass(frozen=True)
class ShippedCode:
    """A code with its record: `mse` and what else its file says."""

    code: LiftCode
    record: Mapping[str, Any]

    @property
    def mse(self) -> float:
        return float(self.record["mse"]["value"])


def read_code(path: Path) -> ShippedCode:
    """A code file, shipped or of one's own.

    Raises:
        LiftError: the file is missing, malformed, altered, or says nothing of its MSE.
    """
    fields = read_json(path)
    if not isinstance(fields, dict) or "value" not in fields.get("mse", {}):
        raise LiftError(f"{path}: no code file (it must hold a definition and its measured mse)")
    return ShippedCode(LiftCode.from_definition(fields, str(path)), fields)


@cache
def shipped_codes() -> Mapping[str, ShippedCode]:
    """All shipped codes by name, by rate and then by window."""
    codes = [read_code(path) for path in _FOLDER.glob("*.json")]
    codes.sort(key=lambda c: (c.code.rate, c.code.overlap > 0, c.code.window))
    return {c.code.name: c for c in codes}


def load_code(name: str) -> LiftCode:
    """A shipped code by its name.

    Raises:
        LiftError: the name is malformed or no such code is shipped; the message lists those.
    """
    parse_name(name)
    codes = shipped_codes()
    if name not in codes:
        raise LiftError(
            f"no code {name} is shipped; there are {', '.join(codes)} "
            "(`liftquant codes learn` makes others)"
        )
    return codes[name].code


def find_code(name: str) -> LiftCode:
    """A shipped code by its name, or a code file by its path, which ends in ``.json``.

    Raises:
        LiftError: there is no such code or file, or the file was altered.
    """
    return read_code(Path(name)).code if name.endswith(".json") else load_code(name)


def best_code(bits: float) -> LiftCode:
    """The shipped code of least MSE at a rate of `bits` per weight.

    Raises:
        LiftError: no code has that rate; the message lists the rates there are.
    """
    shipped = shipped_codes().values()
    at_rate = [c for c in shipped if abs(c.code.rate - bits) < 1e-9]
    if not at_rate:
        rates = ", ".join(f"{r:g}" for r in sorted({c.code.rate for c in shipped}))
        raise LiftError(f"no shipped code has {bits:g} bits per weight; choose one of {rates}")
    return min(at_rate, key=lambda c: c.mse).code
