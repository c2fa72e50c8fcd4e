"""Where learning starts from: random taps and masks, another code's, or the best found so far.

Parity masks are drawn among all pairs and triples of window bits. Choosing them by the error of a
code that lacks them was no help: it does not say which masks the optimum with them would use, and
masks of two bits have no gradient at all while the taps are symmetric. What does help is to set
every window's value free for some Lloyd steps, and to see which masks that table leans on.
"""

from dataclasses import dataclass

import numpy as np

from algo.code import LiftCode
from algo.free_table import train_table
from algo.geometry import Floats64, Geometry, real_taps
from algo.viterbi import table_taps, window_values

_FREED = 0.3  # of the bred candidates with parities have them chosen by a free table
_SWAPPED = 0.3  # of the others draw some of them anew
_LLOYD = 25  # steps of such a table
_LLOYD_WEIGHTS = 32768  # in each, for every weight of the group
_NOISE = (0.05, 0.6)  # range of the noise put on a bred candidate's taps, relative to their size
_GENTLE = 0.3  # from taps that are good already, a first step so much smaller finds better ones
_BRED = 0.5  # of the training steps are enough for a candidate bred from a good one

Pool = list[tuple[float, LiftCode]]


@dataclass(frozen=True)
class Candidate:
    """Taps to train.

    Attributes:
        taps: float64 ``(d, L + P)``.
        geometry: what they belong to, all masks fixed.
        pace: size of the first training step, relative to that of random taps.
        patience: number of training steps, relative to that of random taps.
    """

    taps: Floats64
    geometry: Geometry
    pace: float = 1.0
    patience: float = 1.0


def random_start(geometry: Geometry, rng: np.random.Generator) -> Candidate:
    """Random masks, and random taps: the same for every weight of a sliding code's group."""
    drawn = rng.choice(geometry.masks(), geometry.drawn, replace=False) if geometry.drawn else ()
    fixed = geometry.fix(geometry.parities + tuple(map(int, drawn)))
    rows = fixed.group if fixed.window is None else 1
    taps = rng.standard_normal((rows, fixed.features))
    unit: Floats64 = taps / np.sqrt(np.square(taps).sum(1, keepdims=True))
    return Candidate(np.repeat(unit, fixed.group // rows, axis=0), fixed)


def row_starts(code: LiftCode, geometry: Geometry) -> list[Candidate]:
    """One candidate for every weight of `code`, of any rate: all weights take that one's taps.

    A window decodes much alike at neighbouring rates, so this is a better start than a random one.
    """
    fixed = geometry.fix(code.parities)
    return [
        Candidate(np.repeat(row[None], geometry.group, axis=0), fixed, _GENTLE)
        for row in real_taps(code)
    ]


def freed_start(code: LiftCode, geometry: Geometry, rng: np.random.Generator) -> Candidate:
    """The masks, and the taps, that a free table begun at `code` leans on most.

    Args:
        code: of the same D, d and window; any parities.
        geometry: how many masks to choose.
        rng: seeds the samples.
    """
    values = window_values(code)
    table = train_table(code, values, _LLOYD, code.group * _LLOYD_WEIGHTS, int(rng.integers(2**31)))
    masks = geometry.masks()
    power = np.square(table_taps(table, masks)).sum(axis=0)
    strongest = [masks[k] for k in np.argsort(-power, kind="stable")[: geometry.drawn]]
    fixed = geometry.fix(geometry.parities + tuple(strongest))
    features = [1 << j for j in range(code.window)] + list(fixed.parities)
    return Candidate(table_taps(table, features), fixed, _GENTLE)


def _swap(
    taps: Floats64, geometry: Geometry, parities: tuple[int, ...], rng: np.random.Generator
) -> tuple[int, ...]:
    """Masks, some of the drawn ones exchanged for others; their taps become random, in place."""
    count = int(rng.integers(1, 1 + max(1, geometry.drawn // 4)))
    first = taps.shape[1] - geometry.drawn
    power = np.square(taps[:, first:]).sum(0)
    chance = 1 / (power + 0.3 * power.mean() + 1e-9)
    places = rng.choice(geometry.drawn, count, replace=False, p=chance / chance.sum())
    others = np.setdiff1d(geometry.masks(), parities)
    count = min(count, len(others))
    masks = np.array(parities)
    masks[len(geometry.parities) + places[:count]] = rng.choice(others, count, replace=False)
    size = 0.5 * np.sqrt(np.square(taps).mean())
    taps[:, first + places[:count]] = size * rng.standard_normal((len(taps), count))
    return tuple(map(int, masks))


def breed(pool: Pool, geometry: Geometry, rng: np.random.Generator) -> Candidate:
    """Taps and masks near those of a pool member, the better ones more often.

    Noise on the taps, or the taps of one weight from another member, or masks drawn anew, or
    chosen by a free table.
    """
    parent = pool[int(len(pool) * rng.random() ** 2)][1]
    if geometry.drawn and rng.random() < _FREED:
        return freed_start(parent, geometry, rng)
    taps, parities = real_taps(parent), parent.parities
    kin = [code for _, code in pool if code.parities == parities]
    if geometry.drawn and rng.random() < _SWAPPED:
        parities = _swap(taps, geometry, parities, rng)
    elif len(kin) > 1 and parent.group > 1 and rng.random() < 0.6:
        other, row = kin[rng.integers(len(kin))], rng.integers(parent.group)
        taps[row] = real_taps(other)[row]
    else:
        size = np.exp(rng.uniform(*np.log(_NOISE))) * np.sqrt(np.square(taps).mean())
        taps += size * rng.standard_normal(taps.shape)
    return Candidate(taps, geometry.fix(parities), _GENTLE, _BRED)
