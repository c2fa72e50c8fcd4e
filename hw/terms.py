"""The sum behind each weight, arranged for hardware: small tables and a balanced adder tree.

The signs' sum ``sum(+-tap)`` splits into sums over at most four features. Four features have
sixteen cases, so each partial sum is a table of constants: one 4-input LUT per bit. A sum of
``+-tap`` always has the parity of ``sum(tap)``, so the tables hold halves and the lowest bit of the
result is a constant.
"""

from dataclasses import dataclass

from algo.code import LiftCode

TABLE_INPUTS = 4


@dataclass(frozen=True)
class Table:
    """One leaf: ``values[x]`` is half the partial sum when the features read ``x``.

    Attributes:
        features: up to four features, first in the lowest bit of ``x``; each is the tuple of the
            window bits whose XOR it is (one bit, unless it is a parity).
        values: ``2**len(features)`` integers.
    """

    features: tuple[tuple[int, ...], ...]
    values: tuple[int, ...]


@dataclass(frozen=True)
class WeightTerms:
    """One weight of a group: ``acc = 2 * (sum of the tables) + odd``; window bits from bit 0."""

    tables: tuple[Table, ...]
    odd: int


def weight_terms(code: LiftCode) -> tuple[WeightTerms, ...]:
    """The d weights of a group."""
    return tuple(_one_weight(code, row) for row in range(code.group))


def projection_stages(code: LiftCode) -> int:
    """Register stages: parities (where there are any), tables, then one per level of adders."""
    deepest = max(len(terms.tables) for terms in weight_terms(code))
    levels = max(deepest - 1, 0).bit_length()
    return bool(code.parities) + 1 + levels


def _one_weight(code: LiftCode, row: int) -> WeightTerms:
    start = code.starts[row]
    taps = code.window_taps[row].tolist()
    terms: list[tuple[tuple[int, ...], int]]
    terms = [((start + j,), tap) for j, tap in enumerate(taps[: code.window]) if tap]
    for mask, tap in zip(code.parities, taps[code.window :], strict=True):
        if tap:
            members = tuple(start + j for j in range(code.window) if mask >> j & 1)
            # a product of an even number of signs is +1 where the XOR of their bits is 0
            terms.append((members, tap if len(members) % 2 else -tap))
    total = sum(tap for _, tap in terms)
    tables = []
    for at in range(0, len(terms), TABLE_INPUTS):
        part = terms[at : at + TABLE_INPUTS]
        sums = [
            sum(tap if x >> n & 1 else -tap for n, (_, tap) in enumerate(part))
            for x in range(1 << len(part))
        ]
        tables.append((tuple(members for members, _ in part), sums))
    # floor halves lose one for every odd table; the first table gives the pairs back
    odd_tables = sum(sums[0] % 2 for _, sums in tables)
    spare = [odd_tables // 2] + [0] * len(tables)
    return WeightTerms(
        tuple(
            Table(features, tuple(value // 2 + extra for value in sums))
            for (features, sums), extra in zip(tables, spare, strict=False)
        ),
        total % 2,
    )
