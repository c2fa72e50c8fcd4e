"""Amounts of memory as people write them: ``24GiB``, ``24GB``, ``600 MiB``, or plain bytes."""

import re
from fractions import Fraction

from algo.errors import LiftError

_UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes in a size; 1 GB is 10**9 and 1 GiB is 2**30, fractions of a byte are dropped.

    Raises:
        LiftError: the text is no size, its unit is unknown, or it is zero.
    """
    match = _SIZE.fullmatch(text)
    if match is None or match[2].upper() not in _UNITS:
        raise LiftError(
            f"{text!r} is not a size; write a number and a unit: 24GiB (2**30 bytes), 24GB (10**9)"
        )
    size = int(Fraction(match[1]) * _UNITS[match[2].upper()])
    if size < 1:
        raise LiftError(f"a size of {text!r} is nothing; write say 24GiB")
    return size


def format_size(size: int) -> str:
    """Bytes for people, in binary units: ``12.34 GiB``."""
    for unit in ("GiB", "MiB", "KiB"):
        if abs(size) >= _UNITS[unit.upper()]:
            return f"{size / _UNITS[unit.upper()]:,.2f} {unit}"
    return f"{size:,} B"
