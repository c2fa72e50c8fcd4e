"""The sum behind each weight, arranged for hardware: small tables and a balanced adder tree.

The signs' sum ``sum(+-tap)`` splits into sums over at most k features, each a table of ``2**k``
constants; with k = 4 that is one 4-input LUT per bit, with k = 1 a tap or its negative. A sum of
``+-tap`` always has the parity of ``sum(tap)``, so the tables hold halves and the lowest bit of the
result is a constant.
"""

from dataclasses import dataclass

from algo.code import LiftCode
from hw.architecture import DEFAULT, Architecture


@dataclass(frozen=True)
class Table:
    """One leaf: ``values[x]`` is half the partial sum when the features read ``x``.

    Attributes:
        features: up to k features, first in the lowest bit of ``x``; each is the tuple of the
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


def weight_terms(code: LiftCode, inputs: int = DEFAULT.inputs) -> tuple[WeightTerms, ...]:
    """The d weights of a group, in tables of at most `inputs` features."""
    return tuple(_one_weight(code, row, inputs) for row in range(code.group))


def adder_levels(code: LiftCode, inputs: int) -> int:
    """Levels of the tree that adds up the tables of the weight that has most."""
    deepest = max(len(terms.tables) for terms in weight_terms(code, inputs))
    return max(deepest - 1, 0).bit_length()


def adder_ranks(code: LiftCode, architecture: Architecture) -> int:
    """Registers within that tree: one after every `levels` levels and after the last."""
    return -(-adder_levels(code, architecture.inputs) // architecture.levels)


def projection_stages(code: LiftCode, architecture: Architecture = DEFAULT) -> int:
    """Clock edges from the one that takes a window to the one that can transfer its weights.

    ``tables``: one for the parities (where there are any), one for the tables, one per rank of
    adders. ``tree``: the same without the tables' own, but one at least. ``shared``: one for the
    features, C for the tables, one per rank of adders, one for the beat in the making.
    """
    ranks = adder_ranks(code, architecture)
    if architecture.kind == "shared":
        return 1 + architecture.cycles + ranks + 1
    own = 1 if architecture.kind == "tables" else ranks == 0
    return bool(code.parities) + own + ranks


def _one_weight(code: LiftCode, row: int, inputs: int) -> WeightTerms:
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
    for at in range(0, len(terms), inputs):
        part = terms[at : at + inputs]
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
