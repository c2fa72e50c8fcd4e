"""The sum behind each weight, arranged for hardware: small tables and a balanced adder tree.

The signs' sum ``sum(+-tap)`` splits into sums over at most k features, each a table of ``2**k``
constants; with k = 4 that is one 4-input LUT per bit, with k = 1 a tap or its negative. A sum of
``+-tap`` always has the parity of ``sum(tap)``, so the tables hold halves and the lowest bit of the
result is a constant. A parity whose bits all index one table is summed in that table, for nothing:
tables are given the window bits that take in most parities.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np

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


@dataclass(frozen=True)
class StepTable:
    """One leaf of a weight that is summed in steps.

    Attributes:
        first: the first of the step's features that index it.
        inputs: how many do.
        values: for every step ``2**inputs`` integers, halves as in `Table`.
    """

    first: int
    inputs: int
    values: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class SteppedTerms:
    """One weight: ``acc = 2 * (sum of the tables over all steps) + odd``.

    In step s, features are the window bits ``[s*n, s*n + n)``, n = ceil(L/C), then as many of the
    parities, ceil(P/C) of them; where there are none left, values do not depend on the place.

    Attributes:
        tables: the step's leaves.
        odd: lowest bit of acc.
        low, high: the range of the sum of the tables.
    """

    tables: tuple[StepTable, ...]
    odd: int
    low: int
    high: int


@cache
def weight_terms(code: LiftCode, inputs: int = DEFAULT.inputs) -> tuple[WeightTerms, ...]:
    """The d weights of a group, in tables of at most `inputs` features."""
    return tuple(_one_weight(code, row, inputs) for row in range(code.group))


def reads_parities(code: LiftCode, inputs: int) -> bool:
    """Whether a parity indexes a table of `inputs` features, instead of being summed in one."""
    return any(
        len(members) > 1
        for terms in weight_terms(code, inputs)
        for table in terms.tables
        for members in table.features
    )


def stepped_terms(code: LiftCode, inputs: int, cycles: int) -> tuple[SteppedTerms, ...]:
    """The d weights of a group, in `cycles` steps by tables of at most `inputs` features."""
    return tuple(_one_stepped(code, row, inputs, cycles) for row in range(code.group))


def step_features(code: LiftCode, cycles: int) -> int:
    """Features of a weight that are summed in one of `cycles` steps."""
    return -(-code.window // cycles) + -(-len(code.parities) // cycles)


def adder_levels(code: LiftCode, architecture: Architecture) -> int:
    """Levels of the tree that adds up the tables of the weight that has most."""
    if architecture.kind == "shared":
        deepest = -(-step_features(code, architecture.cycles) // architecture.inputs)
    else:
        deepest = max(len(terms.tables) for terms in weight_terms(code, architecture.inputs))
    return max(deepest - 1, 0).bit_length()


def adder_ranks(code: LiftCode, architecture: Architecture) -> int:
    """Registers within that tree: one after every `levels` levels and after the last."""
    return -(-adder_levels(code, architecture) // architecture.levels)


def projection_stages(code: LiftCode, architecture: Architecture = DEFAULT) -> int:
    """Clock edges from the one that takes a window to the one that can transfer its weights.

    ``tables``: one for the parities (where any index a table), one for the tables, one per rank of
    adders. ``tree``: the same without the tables' own, but one at least. ``shared``: one for the
    features, C for the tables, one per rank of adders, one for the beat in the making.
    """
    ranks = adder_ranks(code, architecture)
    if architecture.kind == "shared":
        return 1 + architecture.cycles + ranks + 1
    own = 1 if architecture.kind == "tables" else ranks == 0
    return reads_parities(code, architecture.inputs) + own + ranks


def _one_weight(code: LiftCode, row: int, inputs: int) -> WeightTerms:
    start = code.starts[row]
    bits, parities = _signed_taps(code, row)
    terms: list[tuple[tuple[int, ...], int]]
    terms = [((start + j,), tap) for j, tap in enumerate(bits) if tap]
    for mask, tap in zip(code.parities, parities, strict=True):
        if tap:
            terms.append((tuple(start + j for j in range(code.window) if mask >> j & 1), tap))
    total = sum(tap for _, tap in terms)
    tables = [
        (features, _table_sums(features, part)) for features, part in _arranged(terms, inputs)
    ]
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


_Term = tuple[tuple[int, ...], int]  # the window bits whose XOR it is, and the tap


def _arranged(
    terms: list[_Term], inputs: int
) -> Iterator[tuple[tuple[tuple[int, ...], ...], list[_Term]]]:
    """The terms, dealt to tables: the features that index a table, and the terms it sums.

    While some `inputs` window bits take in as many terms, a parity among them, they index a
    table; the terms that are left index tables themselves.
    """
    left = list(terms)
    bits = sorted({bit for members, _ in terms for bit in members})
    sets = list(combinations(bits, inputs)) if _has_parity(terms) else []
    # counted from the window's first bit: a group may be wider than a machine word
    outside = ~np.array([_mask(subset, bits[0]) for subset in sets], dtype=np.int64)
    while sets and _has_parity(left):
        masks = np.array([_mask(members, bits[0]) for members, _ in left], dtype=np.int64)
        inside = outside[:, None] & masks == 0
        best = int(inside.sum(1).argmax())
        part = [term for term, within in zip(left, inside[best], strict=True) if within]
        if len(part) < inputs or not _has_parity(part):
            break
        yield tuple((bit,) for bit in sets[best]), part
        left = [term for term in left if term not in part]
    for at in range(0, len(left), inputs):
        part = left[at : at + inputs]
        yield tuple(members for members, _ in part), part


def _has_parity(terms: Sequence[_Term]) -> bool:
    return any(len(members) > 1 for members, _ in terms)


def _mask(members: tuple[int, ...], first: int) -> int:
    return sum(1 << bit - first for bit in members)


def _table_sums(features: tuple[tuple[int, ...], ...], terms: list[_Term]) -> list[int]:
    """The sum of the terms for every value of the features."""
    places = [
        [features.index(members)]
        if members in features
        else [features.index((bit,)) for bit in members]
        for members, _ in terms
    ]
    return [
        sum(
            tap if sum(x >> place for place in where) & 1 else -tap
            for where, (_, tap) in zip(places, terms, strict=True)
        )
        for x in range(1 << len(features))
    ]


def _one_stepped(code: LiftCode, row: int, inputs: int, cycles: int) -> SteppedTerms:
    bits, parities = _signed_taps(code, row)
    steps = [
        one + two for one, two in zip(_dealt(bits, cycles), _dealt(parities, cycles), strict=True)
    ]
    starts = range(0, step_features(code, cycles), inputs)
    sums = {(at, s): _sums(step[at : at + inputs]) for at in starts for s, step in enumerate(steps)}
    spare = sum(values[0] % 2 for values in sums.values()) // 2
    tables = []
    for at in starts:
        values = tuple(
            tuple(value // 2 + (spare if at == s == 0 else 0) for value in sums[at, s])
            for s in range(cycles)
        )
        tables.append(StepTable(at, len(steps[0][at : at + inputs]), values))
    odd, reach = sum(bits + parities) % 2, sum(map(abs, bits + parities))
    return SteppedTerms(tuple(tables), odd, (-reach - odd) // 2, (reach - odd) // 2)


def _dealt(taps: list[int], steps: int) -> list[list[int]]:
    """In `steps` equal pieces, zeros after the last."""
    each = -(-len(taps) // steps)
    padded = taps + [0] * (each * steps - len(taps))
    return [padded[s * each : (s + 1) * each] for s in range(steps)]


def _signed_taps(code: LiftCode, row: int) -> tuple[list[int], list[int]]:
    """A weight's taps over its window's bits and over the XORs of its parities' bits."""
    taps = code.window_taps[row].tolist()
    # a product of an even number of signs is +1 where the XOR of their bits is 0
    parities = [
        tap if mask.bit_count() % 2 else -tap
        for mask, tap in zip(code.parities, taps[code.window :], strict=True)
    ]
    return taps[: code.window], parities


def _sums(taps: list[int]) -> list[int]:
    """The sum of +-taps for every value of as many features."""
    return [
        sum(tap if x >> n & 1 else -tap for n, tap in enumerate(taps))
        for x in range(1 << len(taps))
    ]
