"""The codes that ship with the package, one JSON file each in ``algo/codes``.

A file holds the code's definition and hash, how it was learned (the command and its settings) and
the MSE measured on N(0, 1) with the integer taps.

*Linear* codes, those without parities, suit every path: the fused product multiplies a one-bit
matrix by the activations, and every parity would cost it another row of that matrix. Codes with
parities are for decoders, where a parity is one XOR gate; nothing picks one unless asked to.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from algo.code import LiftCode, parse_name
from algo.errors import LiftError
from algo.files import read_json

_FOLDER = Path(__file__).parent / "codes"

# one of each kind: what proofs and measurements that are too long for every code run on
REFERENCE = (
    "LQ-16/8", "LQ-24/10", "LQ-24/8", "LQ-2/1+6", "LQ-2/1+10", "LQ-2/1+10^12", "LQ-12/5+5",
    "LQ-12/5+9", "LQ-3/1+5", "LQ-3/1+9",
)  # fmt: skip


@dataclass(frozen=True)
class ShippedCode:
    """A code with its record: `mse` and what else its file says."""

    code: LiftCode
    record: Mapping[str, Any]

    @property
    def mse(self) -> float:
        return float(self.record["mse"]["value"])

    @property
    def standard_error(self) -> float:
        return float(self.record["mse"]["standard_error"])

    @property
    def gap(self) -> float:
        """dB over Shannon's bound 2^(-2 bits) for a Gaussian source."""
        return 10 * math.log10(self.mse * 4**self.code.rate)

    @property
    def linear(self) -> bool:
        """Whether the fused one-bit product takes it without extra rows."""
        return not self.code.parities


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
    """All shipped codes by name: by rate, block codes first, then by window and parities."""
    codes = [read_code(path) for path in _FOLDER.glob("*.json")]
    codes.sort(key=lambda c: (c.code.rate, c.code.overlap > 0, c.code.window, len(c.code.parities)))
    return {c.code.name: c for c in codes}


def _nearest(name: str) -> list[str]:
    """Shipped codes of the rates nearest to that of `name`."""
    lifted, group, overlap, *_ = parse_name(name)

    def distance(shipped: str) -> tuple[float, int]:
        code = shipped_codes()[shipped].code
        return abs(code.rate - lifted / group), abs(code.overlap - overlap)

    return sorted(shipped_codes(), key=distance)[:6] if group else list(shipped_codes())[:6]


def load_code(name: str) -> LiftCode:
    """A shipped code by its name.

    Raises:
        LiftError: the name is malformed or no such code is shipped; the message lists the nearest.
    """
    parse_name(name)
    codes = shipped_codes()
    if name not in codes:
        raise LiftError(
            f"no code {name} is shipped; the nearest names are {', '.join(_nearest(name))} "
            "(`liftquant codes list` shows all, `liftquant codes learn` makes others)"
        )
    return codes[name].code


def find_code(name: str) -> LiftCode:
    """A shipped code by its name, or a code file by its path, which ends in ``.json``.

    Raises:
        LiftError: there is no such code or file, or the file was altered.
    """
    return read_code(Path(name)).code if name.endswith(".json") else load_code(name)


def fitting_codes(window: int, parities: bool) -> list[ShippedCode]:
    """Sliding codes with a window of `window` bits; those with parities only if `parities`.

    Codes whose parities stay within cells serve decoders that are built for one code: they are
    chosen by name.
    """
    every = shipped_codes().values()
    return [
        c for c in every
        if c.code.overlap and c.code.window == window
        and c.code.cells <= parities
    ]  # fmt: skip


def rates(window: int = 12, parities: bool = False) -> list[float]:
    """Bits per weight that `best_code` has a code for, ascending."""
    return sorted({c.code.rate for c in fitting_codes(window, parities)})


def best_code(bits: float, window: int = 12, parities: bool = False) -> LiftCode:
    """The shipped code of least MSE at a rate of `bits` per weight and a window of `window` bits.

    Args:
        bits: the rate, D/d.
        window: L, what one weight is decoded from: 8, 12 or 16; search time doubles with each bit.
        parities: whether a code with parities may be chosen; without, the code is linear and fits
            the fused product.

    Raises:
        LiftError: no code has that rate or window; the message lists what there is.
    """
    fitting = fitting_codes(window, parities)
    if not fitting:
        windows = sorted({c.code.window for c in shipped_codes().values()})
        raise LiftError(
            f"no shipped code has a window of {window} bits; choose one of "
            f"{', '.join(map(str, windows))}"
        )
    at_rate = [c for c in fitting if abs(c.code.rate - bits) < 1e-9]
    if not at_rate:
        offered = ", ".join(f"{rate:g}" for rate in rates(window, parities))
        raise LiftError(
            f"no shipped code has {bits:g} bits per weight and a window of {window} bits; "
            f"choose one of {offered}"
        )
    return min(at_rate, key=lambda c: c.mse).code
