"""Why a weight should be what it should be, and what the wrong value looks like."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from algo.code import LiftCode
from algo.decode import decode_bits


@dataclass(frozen=True)
class Term:
    """One term of a weight's sum.

    Attributes:
        bits: places in the stream of the bits whose signs are multiplied; one, unless a parity.
        values: those bits.
        tap: what the product of the signs is times.
        product: the term.
    """

    bits: tuple[int, ...]
    values: tuple[int, ...]
    tap: int
    product: int

    def __str__(self) -> str:
        places = "*".join(
            f"b[{bit}]={value}" for bit, value in zip(self.bits, self.values, strict=True)
        )
        return f"{places:>12}  {self.product // self.tap:+d} * {self.tap:4d} = {self.product:+5d}"


def weight_sum(code: LiftCode, bits: npt.NDArray[np.uint8], index: int) -> list[Term]:
    """The terms of weight `index` of a stream, uint8 0/1 ``(G*D,)``; taps of 0 are left out."""
    group, row = divmod(index, code.group)
    start = group * code.lifted + code.starts[row]
    places = [(start + j) % len(bits) for j in range(code.window)]
    taps = code.window_taps[row].tolist()
    members: list[tuple[int, ...]] = [(place,) for place in places]
    members += [
        tuple(place for j, place in enumerate(places) if mask >> j & 1) for mask in code.parities
    ]
    terms = []
    for which, tap in zip(members, taps, strict=True):
        values = tuple(int(bits[place]) for place in which)
        sign = -1 if values.count(0) % 2 else 1
        if tap:
            terms.append(Term(which, values, tap, sign * tap))
    return terms


def likenesses(
    code: LiftCode, bits: npt.NDArray[np.uint8], index: int, got: int, nearby: int
) -> list[str]:
    """What the wrong value `got` of weight `index` could have come from.

    Args:
        code: the code.
        bits: of the stream, uint8 0/1 ``(G*D,)``.
        index: of the weight in its stream.
        got: the value the design gave.
        nearby: how far away other weights of the stream are compared with.
    """
    terms = weight_sum(code, bits, index)
    weights = decode_bits(bits[None], code)[0].tolist()
    expected = weights[index]
    found = []
    for term in terms:
        if expected - 2 * term.product == got:
            found.append(f"the term of {_places(term)} has the wrong sign")
        if expected - term.product == got:
            found.append(f"the term of {_places(term)} is missing")
    for other in range(max(0, index - nearby), min(len(weights), index + nearby + 1)):
        if other != index and weights[other] == got:
            found.append(f"it is what weight {other} of the stream should be")
    if got == -expected:
        found.append("all signs are the other way round")
    last = (index // code.group) * code.lifted + code.starts[index % code.group] + code.window
    if last > len(bits):
        for fill in (0, 1):
            wrapped = np.concatenate([bits, np.full(code.overlap, fill, np.uint8)])
            if sum(t.product for t in _unwrapped(code, wrapped, index)) == got:
                found.append(f"its window goes on with {fill}s where it should wrap round")
    return found


def _unwrapped(code: LiftCode, bits: npt.NDArray[np.uint8], index: int) -> list[Term]:
    """As `weight_sum`, the stream being followed by bits that no window wraps round from."""
    padding = -len(bits) % code.lifted
    return weight_sum(code, np.pad(bits, (0, padding)), index)


def _places(term: Term) -> str:
    return " and ".join(f"bit {bit}" for bit in term.bits)
