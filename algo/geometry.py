"""What is fixed before a code is learned, and the code that real taps of that shape become."""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from algo.code import MAX_EXPONENT, MAX_ROW_SUM, LiftCode, block_shifts, sliding_shifts
from algo.errors import LiftError

Floats64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """What is fixed before learning.

    Attributes:
        lifted: D, bits per group.
        group: d, weights per group.
        window: L, bits a weight is decoded from; None for a block code.
        parities: masks that the code must have.
        drawn: how many more masks, of two or three bits, learning may choose itself.
        taps_bits: width of a tap as a two's complement integer, 4 to 8.
    """

    lifted: int
    group: int
    window: int | None = None
    parities: tuple[int, ...] = ()
    drawn: int = 0
    taps_bits: int = 8

    def check(self) -> None:
        """Raise LiftError where no valid code has this geometry, before any work is done."""
        if self.lifted < 1 or self.group < 1:
            raise LiftError(f"lifted={self.lifted}, group={self.group}: both must be at least 1")
        if self.window is not None and self.window <= self.shifts[-1]:
            raise LiftError(
                f"a window of {self.window} bits does not reach past the {self.shifts[-1]} bits "
                "that a group's last weight adds; use a longer window, or none for a block code"
            )
        if not 4 <= self.taps_bits <= 8:
            raise LiftError(f"taps of {self.taps_bits} bits: the width must be 4 to 8")
        if (self.parities or self.drawn) and self.window is None:
            raise LiftError("a block code with parities has no search; give a window")
        if self.drawn > len(self.masks()):
            raise LiftError(
                f"{self.drawn} parities asked for, but a window of {self.window} bits has only "
                f"{len(self.masks())} pairs and triples to draw from"
            )
        code_from_taps(np.eye(self.group, self.features), self.fix(self.parities))

    def fix(self, parities: tuple[int, ...]) -> "Geometry":
        """The same with these masks and none left to draw."""
        return replace(self, parities=parities, drawn=0)

    def masks(self) -> list[int]:
        """All pairs and triples of window bits that may be drawn."""
        bits = range(self.overlap + self.shifts[-1])
        every = [sum(1 << j for j in c) for n in (2, 3) for c in combinations(bits, n)]
        return [mask for mask in every if mask not in self.parities]

    @property
    def shifts(self) -> tuple[int, ...]:
        if self.window is None:
            return block_shifts(self.lifted, self.group)
        return sliding_shifts(self.lifted, self.group)

    @property
    def overlap(self) -> int:
        return 0 if self.window is None else self.window - self.shifts[-1]

    @property
    def features(self) -> int:
        """Taps per weight: window bits, then parities."""
        return self.overlap + self.shifts[-1] + len(self.parities)


def cell_triples(window: int, cells: int) -> tuple[int, ...]:
    """All triples of window bits within each of `cells` interleaved cells, as parity masks.

    Cell c has the bits c, c + C, c + 2C, ...: a decoder sums each cell in one table, and with the
    products of three signs, which are odd as the signs are, that table is all but free.

    Raises:
        LiftError: a cell would have fewer than three bits.
    """
    if not 1 <= cells <= window // 3:
        raise LiftError(
            f"{cells} cells: a window of {window} bits has 1 to {window // 3} of three or more bits"
        )
    return tuple(
        sum(1 << bit for bit in triple)
        for cell in range(cells)
        for triple in combinations(range(cell, window, cells), 3)
    )


def code_from_taps(window_taps: Floats64, geometry: Geometry) -> LiftCode:
    """The code with real taps ``(d, L + P)`` rounded at the finest exponent allowed."""
    largest = 2 ** (geometry.taps_bits - 1) - 1
    for exponent in range(MAX_EXPONENT, -1, -1):
        integers = np.rint(window_taps * 2.0**exponent)
        if np.abs(integers).max() <= largest and np.abs(integers).sum(1).max() <= MAX_ROW_SUM:
            break
    else:
        raise LiftError(
            f"taps up to {np.abs(window_taps).max():.1f} do not fit in {geometry.taps_bits} bits"
        )
    shifts, extra = geometry.shifts, len(geometry.parities)
    bits = geometry.features - extra
    taps = np.zeros((geometry.group, geometry.lifted + geometry.overlap + extra), np.int8)
    for i in range(geometry.group):
        start = sum(shifts[:i])
        taps[i, start : start + bits] = integers[i, :bits]
        taps[i, taps.shape[1] - extra :] = integers[i, bits:]
    return LiftCode(
        geometry.lifted, geometry.group, geometry.overlap, shifts, taps, exponent, geometry.parities
    )


def real_taps(code: LiftCode) -> Floats64:
    """float64 ``(d, L + P)``: the taps of `code` in units of the decoded weight."""
    return code.window_taps.astype(np.float64) * 2.0**-code.exponent
