"""Learn the taps of a code on N(0, 1).

Every candidate is trained by alternating nearest codewords and least squares. A plain alternation
creeps towards its fixed point and stops in poor ones; over-relaxed steps with momentum, annealed to
nothing on fresh samples, go past them. Random starts fill a pool with the best found; then
candidates bred from the pool (a member with noise on its taps, with rows taken from another, or
with its least useful parities drawn anew) replace those they beat. Candidates are rated with the
integer taps that would be shipped.

Parity masks are drawn among all pairs and triples of window bits. Greedy choices were no help: the
error of a code without parities does not say which masks its optimum with them would use, and even
masks have no gradient at all while the taps are symmetric.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from algo.code import MAX_EXPONENT, MAX_ROW_SUM, LiftCode, block_shifts, sliding_shifts
from algo.decode import decode_bits
from algo.errors import LiftError
from algo.files import read_json, write_json
from algo.packing import Bits
from algo.search import encode

Floats64 = npt.NDArray[np.float64]

_POOL = 12  # candidates kept
_CHECK = 12  # a candidate is rated on so many times the weights of a training step
_STEP = 3.0  # first step towards the least-squares taps, relative to the way there
_MOMENTUM = 0.8
_BRED = 0.4  # of the steps of a random start are enough for a candidate bred from a good one
_NOISE = (0.05, 0.6)  # range of the noise put on a bred candidate's taps, relative to their size
_SWAPPED = 0.4  # of the bred candidates with parities draw some of them anew
_STREAM = 2048  # weights per training stream, about

Pool = list[tuple[float, LiftCode]]


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
        code_from_taps(np.eye(self.group, self.features), replace(self, drawn=0))

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


@dataclass(frozen=True)
class Schedule:
    """Candidates (random, then bred), weights per training step, and steps for a random one."""

    seed: int = 0
    starts: int = 24
    bred: int = 40
    weights: int = 8192
    steps: int = 100


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


def window_signs(bits: Bits, code: LiftCode) -> npt.NDArray[np.float32]:
    """Lifted features of every weight: float32 +-1 of shape ``(streams, G, d, L + P)``."""
    n = bits.shape[1]
    groups = np.arange(n // code.lifted)[:, None, None] * code.lifted
    places = groups + np.array(code.starts)[:, None] + np.arange(code.window)
    signs = bits[:, places % n].astype(np.float32) * 2 - 1
    extra = [
        signs[..., [j for j in range(code.window) if mask >> j & 1]].prod(axis=-1, keepdims=True)
        for mask in code.parities
    ]
    return np.concatenate([signs, *extra], axis=-1)


def refit(targets: npt.NDArray[np.float32], bits: Bits, code: LiftCode) -> Floats64:
    """Least-squares taps ``(d, L + P)`` for given bits; `targets` is ``(streams, G*d)``."""
    signs = window_signs(bits, code).reshape(-1, code.group, code.window_taps.shape[1])
    wanted = targets.reshape(-1, code.group)
    out = np.empty((code.group, signs.shape[2]))
    for i in range(code.group):
        x = np.ascontiguousarray(signs[:, i])
        gram = (x.T @ x).astype(np.float64)  # sums of +-1: exact in float32 up to 2**24 weights
        gram += 1e-3 * np.eye(len(gram))
        # in float64, so that the order of summation, which threads decide, hardly matters
        out[i] = np.linalg.solve(gram, x.T.astype(np.float64) @ wanted[:, i])
    return out


def _samples(rng: np.random.Generator, weights: int, group: int) -> npt.NDArray[np.float32]:
    groups = max(1, min(_STREAM, weights) // group)
    streams = max(1, round(weights / (groups * group)))
    return rng.standard_normal((streams, groups * group), dtype=np.float32)


def squared_errors(
    code: LiftCode, targets: npt.NDArray[np.float32], workers: int | None = None
) -> npt.NDArray[np.float64]:
    """Squared error of every weight, encoded and decoded with the integer taps."""
    accs = decode_bits(encode(targets, code, workers), code)
    errors: Floats64 = np.square(targets - accs.astype(np.float64) * 2.0**-code.exponent)
    return errors


def measure(code: LiftCode, weights: int, seed: int) -> tuple[float, float]:
    """MSE on fresh N(0, 1) samples and its standard error; streams of about 2048 weights.

    The standard error is taken over groups, whose errors are nearly independent.
    """
    rng = np.random.default_rng([seed, 0x4D5345])  # a sequence of its own, apart from training's
    errors = squared_errors(code, _samples(rng, weights, code.group))
    groups = errors.reshape(-1, code.group).mean(axis=1)
    return float(groups.mean()), float(groups.std(ddof=1) / len(groups) ** 0.5)


def _start(geometry: Geometry, rng: np.random.Generator) -> tuple[Floats64, Geometry]:
    """Random masks, and random taps: the same for every weight of a sliding code's group."""
    drawn = rng.choice(geometry.masks(), geometry.drawn, replace=False) if geometry.drawn else ()
    fixed = replace(geometry, parities=geometry.parities + tuple(map(int, drawn)), drawn=0)
    rows = fixed.group if fixed.window is None else 1
    taps = rng.standard_normal((rows, fixed.features))
    unit: Floats64 = taps / np.sqrt(np.square(taps).sum(1, keepdims=True))
    return np.repeat(unit, fixed.group // rows, axis=0), fixed


def _real_taps(code: LiftCode) -> Floats64:
    return code.window_taps.astype(np.float64) * 2.0**-code.exponent


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


def _breed(pool: Pool, geometry: Geometry, rng: np.random.Generator) -> tuple[Floats64, Geometry]:
    """Taps and masks near those of a pool member, the better ones more often."""
    parent = pool[int(len(pool) * rng.random() ** 2)][1]
    taps, parities = _real_taps(parent), parent.parities
    kin = [code for _, code in pool if code.parities == parities]
    if geometry.drawn and rng.random() < _SWAPPED:
        parities = _swap(taps, geometry, parities, rng)
    elif len(kin) > 1 and parent.group > 1 and rng.random() < 0.6:
        other, row = kin[rng.integers(len(kin))], rng.integers(parent.group)
        taps[row] = _real_taps(other)[row]
    else:
        size = np.exp(rng.uniform(*np.log(_NOISE))) * np.sqrt(np.square(taps).mean())
        taps += size * rng.standard_normal(taps.shape)
    return taps, replace(geometry, parities=parities, drawn=0)


def _train(
    taps: Floats64, geometry: Geometry, weights: int, steps: int, rng: np.random.Generator
) -> LiftCode:
    code = code_from_taps(taps, geometry)  # its geometry and parities; the taps stay real below
    velocity = np.zeros_like(taps)
    for k in range(steps):
        targets = _samples(rng, weights, geometry.group)
        fitted = refit(targets, encode(targets, code, taps=taps), code)
        velocity = _MOMENTUM * velocity + _STEP * (1 - k / steps) * (fitted - taps)
        taps = taps + velocity
    targets = _samples(rng, _CHECK * weights, geometry.group)
    return code_from_taps(refit(targets, encode(targets, code, taps=taps), code), geometry)


def _adopt(
    code: LiftCode, geometry: Geometry, check: npt.NDArray[np.float32]
) -> tuple[float, LiftCode]:
    """A pool member from a code of the same geometry; its taps are rounded to the width asked."""
    fixed = replace(geometry, parities=code.parities, drawn=0)
    kept, count = len(geometry.parities), len(geometry.parities) + geometry.drawn
    if (
        (code.lifted, code.group, code.shifts) != (fixed.lifted, fixed.group, fixed.shifts)
        or code.overlap != fixed.overlap
        or len(code.parities) != count
        or code.parities[:kept] != geometry.parities
    ):
        raise LiftError(f"{code.name} is of another geometry than the code to be learned")
    rounded = code_from_taps(_real_taps(code), fixed)
    return float(squared_errors(rounded, check).mean()), rounded


def _resume(state: Path | None, key: str) -> tuple[int, Pool]:
    """Candidates tried, and the pool, of a run that was stopped."""
    if state is None or not state.exists():
        return 0, []
    saved = read_json(state)
    if not isinstance(saved, dict) or saved.get("key") != key:
        raise LiftError(f"{state} was begun with other settings; repeat those, or remove the file")
    codes = [LiftCode.from_definition(entry, str(state)) for entry in saved["pool"]]
    return int(saved["tried"]), list(zip(saved["mse"], codes, strict=True))


def learn(
    geometry: Geometry,
    schedule: Schedule,
    state: Path | None = None,
    on_progress: Callable[[float, str], None] | None = None,
    begin: Sequence[LiftCode] = (),
) -> LiftCode:
    """Learn one code. The result depends on the geometry, the schedule and `begin` only.

    Args:
        geometry: D, d, window and parities.
        schedule: seed and amount of work.
        state: JSON file that holds the pool after every candidate; a run with the same arguments
            that finds it goes on from there.
        begin: codes of this geometry that the pool starts with, say of a wider tap.
        on_progress: called with the finished fraction and a line about the best so far.

    Raises:
        LiftError: `state` belongs to another geometry or schedule, or `begin` does not fit.
    """
    geometry.check()
    key = json.dumps([asdict(geometry), asdict(schedule), [code.sha256 for code in begin]])
    tried, pool = _resume(state, key)
    check = _samples(
        np.random.default_rng([schedule.seed, 0x434B]), schedule.weights * _CHECK, geometry.group
    )
    if not pool:
        pool = [_adopt(code, geometry, check) for code in begin]
    total = schedule.starts + schedule.bred
    for k in range(tried, total):
        rng = np.random.default_rng([schedule.seed, k])
        if k < schedule.starts:
            (taps, fixed), steps = _start(geometry, rng), schedule.steps
        else:
            (taps, fixed), steps = _breed(pool, geometry, rng), round(schedule.steps * _BRED)
        code = _train(taps, fixed, schedule.weights, steps, rng)
        error = float(squared_errors(code, check).mean())
        pool = sorted([*pool, (error, code)], key=lambda pair: pair[0])[:_POOL]
        if state is not None:
            entries = [member.definition() for _, member in pool]
            errors = [member_error for member_error, _ in pool]
            write_json(state, {"key": key, "tried": k + 1, "mse": errors, "pool": entries})
        if on_progress:
            kind = "random starts" if k < schedule.starts else "bred"
            on_progress((k + 1) / total, f"{kind}, best MSE {pool[0][0]:.5f}")
    return pool[0][1]
