"""The code LQ-D/d+V: D bits per group of d weights, each window reaching V bits further.

Group ``g`` of a stream is decoded from the ``D + V`` bits that start at bit ``g*D``, wrapping round
to the first bits of the stream (tail-biting). Weight ``i`` of the group sees only its own window of
``L`` bits, ``[start_i, start_i + L)`` with ``start_i = sum(shifts[:i])``. The paper's block code
(LiftQuant, arXiv 2606.04050, section 3) is the member with ``V = 0`` and all starts at 0, so one
definition serves every rate.
"""

import functools
import hashlib
import json
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from algo.errors import LiftError

MAX_ROW_SUM = 2047  # a larger sum of |taps| is not exact in float16, nor in 12 signed bits
MAX_SLIDING_WINDOW = 16  # a trellis step visits 2**L branches
MAX_SLIDING_SHIFT = 8  # the search keeps the bits that a step drops in one byte
MAX_BLOCK_WINDOW = 32  # a window is read from at most two 32-bit words
MAX_EXPONENT = 15
_NAME = re.compile(r"LQ-(\d+)/(\d+)(?:\+(\d+))?(?:\^(\d+)(?::(\d+))?)?")

Int8Array = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class LiftCode:
    """One code: its geometry and its integer taps.

    Attributes:
        lifted: D, bits per group.
        group: d, weights per group.
        overlap: V, bits the group's window reaches into the following groups.
        shifts: d non-negative integers that sum to D; weight ``i`` starts at ``sum(shifts[:i])``.
            A block code has ``(0, ..., 0, D)``.
        taps: int8, shape ``(d, D + V + P)``; row ``i`` is zero outside its window. The last P
            columns belong to the parities.
        exponent: a decoded integer ``acc`` stands for the unit-variance weight
            ``acc * 2**-exponent``.
        parities: P bit masks over a weight's own window, bit ``j`` meaning window bit ``j``; each
            is one more lifted feature, the product of its signs.

    Raises:
        LiftError: a field breaks a rule of the contract; the message names the field and value.
    """

    lifted: int
    group: int
    overlap: int
    shifts: tuple[int, ...]
    taps: Int8Array
    exponent: int
    parities: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._check_geometry()
        self._check_parities()
        if not 0 <= self.exponent <= MAX_EXPONENT:
            raise LiftError(f"exponent {self.exponent} is outside 0..{MAX_EXPONENT}")
        self._check_taps()
        taps = np.array(self.taps, order="C")  # our own copy, which nobody can change
        taps.setflags(write=False)
        object.__setattr__(self, "taps", taps)

    def _check_geometry(self) -> None:
        if self.lifted < 1 or self.group < 1 or self.overlap < 0:
            raise LiftError(
                f"lifted={self.lifted}, group={self.group}, overlap={self.overlap}: lifted and "
                "group must be at least 1 and overlap at least 0"
            )
        if len(self.shifts) != self.group or sum(self.shifts) != self.lifted:
            raise LiftError(
                f"shifts {list(self.shifts)} must be {self.group} integers that sum to "
                f"{self.lifted} (one per weight of the group)"
            )
        if min(self.shifts) < 0 or (self.overlap and min(self.shifts) < 1):
            raise LiftError(
                f"shifts {list(self.shifts)} must all be positive in a sliding code, and "
                "non-negative in a block code"
            )
        if self.overlap and max(self.shifts) > MAX_SLIDING_SHIFT:
            raise LiftError(
                f"shift of {max(self.shifts)} bits is over the limit of {MAX_SLIDING_SHIFT} in a "
                "sliding code; spread the bits over more weights, or use a block code"
            )
        limit = MAX_SLIDING_WINDOW if self.overlap else MAX_BLOCK_WINDOW
        if self.window > limit:
            raise LiftError(
                f"window of {self.window} bits is over the limit of {limit}; "
                f"use a smaller {'overlap' if self.overlap else 'lifted'}"
            )

    def _check_parities(self) -> None:
        for mask in self.parities:
            if not 0 < mask < 1 << self.window or mask.bit_count() < 2:
                raise LiftError(
                    f"parity mask {mask:#x} must name two or more of the {self.window} window bits"
                )
        if len(set(self.parities)) != len(self.parities):
            raise LiftError(f"parity masks {list(self.parities)} repeat; drop the copies")

    def _check_taps(self) -> None:
        taps = self.taps
        shape = (self.group, self.lifted + self.overlap + len(self.parities))
        if taps.dtype != np.int8 or taps.shape != shape:
            raise LiftError(
                f"taps are {taps.dtype} of shape {taps.shape}; they must be int8 of shape {shape}"
            )
        row_sums = np.abs(taps.astype(np.int32)).sum(axis=1)
        if row_sums.max() > MAX_ROW_SUM:
            row = int(row_sums.argmax())
            raise LiftError(
                f"row {row} of the taps sums to {row_sums[row]} in absolute value, over "
                f"{MAX_ROW_SUM}; scale the taps down and lower the exponent"
            )
        for row, start in enumerate(self.starts):
            outside = taps[row, : self.lifted + self.overlap].copy()
            outside[start : start + self.window] = 0
            if outside.any():
                raise LiftError(
                    f"row {row} of the taps is non-zero at bit {int(outside.nonzero()[0][0])}, "
                    f"outside its window [{start}, {start + self.window})"
                )

    @property
    def window(self) -> int:
        """L, the bits one weight is decoded from."""
        return self.overlap + self.shifts[-1]

    @property
    def rate(self) -> float:
        """D/d, bits per weight before padding and scales."""
        return self.lifted / self.group

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First window bit of each weight, relative to its group's first bit."""
        return tuple(sum(self.shifts[:i]) for i in range(self.group))

    @cached_property
    def cells(self) -> int:
        """Sets that the parities divide the window's bits into, none of them reaching over two.

        A decoder may sum each set in a table of its own. 0 without parities, 1 where they don't
        divide the window, or leave bits out.
        """
        sets: list[int] = []
        for mask in self.parities:
            touched = [bits for bits in sets if bits & mask]
            sets = [bits for bits in sets if not bits & mask]
            sets.append(functools.reduce(operator.or_, touched, mask))
        return len(sets) if sum(sets) + 1 == 1 << self.window else min(len(sets), 1)

    @property
    def name(self) -> str:
        """``LQ-D/d``, then ``+V`` where windows overlap, ``^P`` where there are parities, and
        ``:C`` where these stay within C > 1 cells.
        """
        overlap = f"+{self.overlap}" if self.overlap else ""
        parities = f"^{len(self.parities)}" if self.parities else ""
        cells = f":{self.cells}" if self.cells > 1 else ""
        return f"LQ-{self.lifted}/{self.group}{overlap}{parities}{cells}"

    @cached_property
    def window_taps(self) -> Int8Array:
        """int8 ``(d, L + P)``: each weight's taps over its own window, then over the parities."""
        bits = [self.taps[i, s : s + self.window] for i, s in enumerate(self.starts)]
        parities = self.taps[:, self.lifted + self.overlap :]
        out = np.concatenate([np.stack(bits), parities], axis=1)
        out.setflags(write=False)
        return out

    def definition(self) -> dict[str, Any]:
        """The fields that make the code, as JSON values; what `sha256` is taken over."""
        return {
            "lifted": self.lifted,
            "group": self.group,
            "overlap": self.overlap,
            "shifts": list(self.shifts),
            "exponent": self.exponent,
            "parities": list(self.parities),
            "taps": self.taps.tolist(),
        }

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the definition as JSON, keys sorted, no spaces."""
        text = json.dumps(self.definition(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def from_definition(
        cls, fields: Mapping[str, Any], where: str = "code definition"
    ) -> "LiftCode":
        """Build from `definition()`; an ``sha256`` entry, where present, must agree.

        Raises:
            LiftError: a field is missing, malformed or breaks the contract, or the hash differs.
        """
        try:
            taps = np.array(fields["taps"])
            if taps.dtype.kind != "i" or taps.min() < -128 or taps.max() > 127:
                raise LiftError(f"{where}: taps must be integers in -128..127")
            numbers = [fields[k] for k in ("lifted", "group", "overlap", "exponent")]
            if any(type(number) is not int for number in numbers):
                raise LiftError(f"{where}: lifted, group, overlap and exponent must be integers")
            code = cls(
                lifted=int(fields["lifted"]),
                group=int(fields["group"]),
                overlap=int(fields["overlap"]),
                shifts=tuple(int(s) for s in fields["shifts"]),
                taps=taps.astype(np.int8),
                exponent=int(fields["exponent"]),
                parities=tuple(int(m) for m in fields.get("parities", ())),
            )
        except KeyError as error:
            raise LiftError(f"{where}: field {error} is missing") from None
        except LiftError as error:
            raise LiftError(f"{where}: {error}") from None
        except (TypeError, ValueError, OverflowError) as error:
            raise LiftError(f"{where}: malformed field: {error}") from None
        stated = fields.get("sha256", code.sha256)
        if stated != code.sha256:
            raise LiftError(
                f"{where}: the definition of {code.name} hashes to {code.sha256[:12]}..., but "
                f"{str(stated)[:12]}... is stated; the file was altered, fetch it again"
            )
        return code

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LiftCode) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"LiftCode({self.name}, window={self.window}, sha256={self.sha256[:12]})"


def block_shifts(lifted: int, group: int) -> tuple[int, ...]:
    """Shifts of a block code: every window starts at the group's first bit."""
    return (0,) * (group - 1) + (lifted,)


def sliding_shifts(lifted: int, group: int) -> tuple[int, ...]:
    """Shifts of a sliding code: D bits spread over d weights as evenly as integers allow."""
    ends = [(i + 1) * lifted // group for i in range(group)]
    return tuple(b - a for a, b in zip([0, *ends], ends, strict=False))


def parse_name(name: str) -> tuple[int, int, int, int, int]:
    """``(D, d, V, P, C)`` of a name such as ``LQ-12/5+9``; what it does not say is 0.

    Raises:
        LiftError: the name is not of the form LQ-D/d, LQ-D/d+V, LQ-D/d+V^P or LQ-D/d+V^P:C.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise LiftError(f"{name!r} is not a code name; write LQ-D/d or LQ-D/d+V, say LQ-24/10")
    lifted, group, overlap, parities, cells = (int(x or 0) for x in match.groups())
    return lifted, group, overlap, parities, cells


def write_definition(code: LiftCode, path: Path, extra: Mapping[str, Any]) -> None:
    """Write a code file: the definition, its hash and whatever says how it was learned."""
    from algo.files import write_json

    write_json(path, {"name": code.name, **code.definition(), "sha256": code.sha256, **extra})
