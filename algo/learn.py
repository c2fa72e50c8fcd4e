"""Learn the taps of a code on N(0, 1).

Every candidate is trained by alternating nearest codewords and least squares. A plain alternation
creeps towards its fixed point and stops in poor ones; over-relaxed steps with momentum, annealed to
nothing on fresh samples, go past them. Random starts fill a pool with the best found; then
candidates bred from the pool (a member with noise on its taps, or with rows taken from another)
replace those they beat. Candidates are rated with the integer taps that would be shipped.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
_STREAM = 1024  # groups per training stream

Pool = list[tuple[float, LiftCode]]


@dataclass(frozen=True)
class Geometry:
    """What is fixed before learning: D, d, L (the window; None for a block code), parities."""

    lifted: int
    group: int
    window: int | None = None
    parities: tuple[int, ...] = ()

    def check(self) -> None:
        """Raise LiftError where no valid code has this geometry, before any work is done."""
        if self.lifted < 1 or self.group < 1:
            raise LiftError(f"lifted={self.lifted}, group={self.group}: both must be at least 1")
        if self.window is not None and self.window <= self.shifts[-1]:
            raise LiftError(
                f"a window of {self.window} bits does not reach past the {self.shifts[-1]} bits "
                "that a group's last weight adds; use a longer window, or none for a block code"
            )
        code_from_taps(np.eye(self.group, self.features), self)

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
    starts: int = 60
    bred: int = 200
    weights: int = 8192
    steps: int = 100


def code_from_taps(window_taps: Floats64, geometry: Geometry) -> LiftCode:
    """The code with real taps ``(d, L + P)`` rounded at the finest exponent allowed."""
    for exponent in range(MAX_EXPONENT, -1, -1):
        integers = np.rint(window_taps * 2.0**exponent)
        if np.abs(integers).max() <= 127 and np.abs(integers).sum(1).max() <= MAX_ROW_SUM:
            break
    else:
        raise LiftError(f"taps up to {np.abs(window_taps).max():.1f} do not fit in 8 bits")
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
        # in float64, so that the order of summation, which threads decide, hardly matters
        x = signs[:, i].astype(np.float64)
        gram = x.T @ x + 1e-3 * np.eye(x.shape[1])
        out[i] = np.linalg.solve(gram, x.T @ wanted[:, i])
    return out


def _samples(rng: np.random.Generator, weights: int, group: int) -> npt.NDArray[np.float32]:
    groups = max(1, min(_STREAM, weights // group))
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
    """MSE on fresh N(0, 1) samples and its standard error, tail-biting streams of 1024 groups.

    The standard error is taken over groups, whose errors are nearly independent.
    """
    rng = np.random.default_rng([seed, 0x4D5345])  # a sequence of its own, apart from training's
    errors = squared_errors(code, _samples(rng, weights, code.group))
    groups = errors.reshape(-1, code.group).mean(axis=1)
    return float(groups.mean()), float(groups.std(ddof=1) / len(groups) ** 0.5)


def _start(geometry: Geometry, rng: np.random.Generator) -> Floats64:
    taps = rng.standard_normal((geometry.group, geometry.features))
    unit: Floats64 = taps / np.sqrt(np.square(taps).sum(1, keepdims=True))
    return unit


def _breed(pool: Pool, rng: np.random.Generator) -> Floats64:
    """Taps near those of a pool member, the better ones more often."""
    parent = pool[int(len(pool) * rng.random() ** 2)][1]
    taps: Floats64 = np.asarray(parent.window_taps * 2.0**-parent.exponent, np.float64)
    if parent.group > 1 and rng.random() < 0.6:
        other = pool[rng.integers(len(pool))][1]
        row = rng.integers(parent.group)
        taps[row] = other.window_taps[row] * 2.0**-other.exponent
    else:
        size = np.exp(rng.uniform(*np.log(_NOISE))) * np.sqrt(np.square(taps).mean())
        taps += size * rng.standard_normal(taps.shape)
    return taps


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
) -> LiftCode:
    """Learn one code. The result depends on the geometry and schedule only.

    Args:
        geometry: D, d, window and parities.
        schedule: seed and amount of work.
        state: JSON file that holds the pool after every candidate; a run with the same arguments
            that finds it goes on from there.
        on_progress: called with the finished fraction and a line about the best so far.

    Raises:
        LiftError: `state` belongs to another geometry or schedule.
    """
    key = json.dumps([asdict(geometry), asdict(schedule)])
    tried, pool = _resume(state, key)
    check = _samples(
        np.random.default_rng([schedule.seed, 0x434B]), schedule.weights * _CHECK, geometry.group
    )
    total = schedule.starts + schedule.bred
    for k in range(tried, total):
        rng = np.random.default_rng([schedule.seed, k])
        if k < schedule.starts:
            taps, steps = _start(geometry, rng), schedule.steps
        else:
            taps, steps = _breed(pool, rng), round(schedule.steps * _BRED)
        code = _train(taps, geometry, schedule.weights, steps, rng)
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
