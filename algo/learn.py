"""Learn the taps of a code on N(0, 1).

Every candidate is trained by alternating nearest codewords and least squares. A plain alternation
creeps towards its fixed point and stops in poor ones; over-relaxed steps with momentum, annealed to
nothing on fresh samples, go past them. Random starts fill a pool with the best found; then
candidates bred from the pool (a member with noise on its taps, with rows taken from another, with
its least useful parities drawn anew, or with those that a free table leans on) replace those they
beat. Candidates are rated with the
integer taps that would be shipped.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from algo.candidates import Candidate, Pool, breed, freed_start, random_start, row_starts
from algo.code import LiftCode
from algo.decode import decode_bits
from algo.errors import LiftError
from algo.files import read_json, write_json
from algo.geometry import Floats64, Geometry, code_from_taps, real_taps
from algo.packing import Bits
from algo.search import encode

_POOL = 12  # candidates kept
_CHECK = 12  # a candidate is rated on so many times the weights of a training step
_STEP = 3.0  # first step towards the least-squares taps, relative to the way there
_MOMENTUM = 0.8
_STREAM = 2048  # weights per training stream, about


@dataclass(frozen=True)
class Schedule:
    """Candidates (random, then bred), weights per training step, and steps for a random one."""

    seed: int = 0
    starts: int = 24
    bred: int = 40
    weights: int = 8192
    steps: int = 100


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


def _train(candidate: Candidate, schedule: Schedule, rng: np.random.Generator) -> LiftCode:
    taps, geometry = candidate.taps, candidate.geometry
    code = code_from_taps(taps, geometry)  # its geometry and parities; the taps stay real below
    velocity = np.zeros_like(taps)
    steps = round(candidate.patience * schedule.steps)
    for k in range(steps):
        targets = _samples(rng, schedule.weights, geometry.group)
        fitted = refit(targets, encode(targets, code, taps=taps), code)
        step = _STEP * candidate.pace * (1 - k / steps)
        velocity = _MOMENTUM * velocity + step * (fitted - taps)
        taps = taps + velocity
    targets = _samples(rng, _CHECK * schedule.weights, geometry.group)
    return code_from_taps(refit(targets, encode(targets, code, taps=taps), code), geometry)


def _adopt(
    begin: Sequence[LiftCode], geometry: Geometry, seed: int
) -> tuple[list[LiftCode], list[Candidate]]:
    """Pool members from codes of the same geometry, rounded to its taps; starts from others."""
    members: list[LiftCode] = []
    starts: list[Candidate] = []
    kept = len(geometry.parities)
    for code in begin:
        own_rate = (code.lifted, code.group) == (geometry.lifted, geometry.group)
        own_masks = (
            len(code.parities) == kept + geometry.drawn
            and code.parities[:kept] == geometry.parities
        )
        if (
            code.window != geometry.features - kept
            or not code.overlap
            or not (own_masks or (own_rate and geometry.drawn))
        ):
            raise LiftError(
                f"{code.name} has {code.window} window bits and {len(code.parities)} parities: "
                "learning can begin with sliding codes of its own window, and of its own parities "
                "where the rate is another"
            )
        if not own_masks:
            starts.append(freed_start(code, geometry, np.random.default_rng([seed, len(starts)])))
        elif own_rate:
            members.append(code_from_taps(real_taps(code), geometry.fix(code.parities)))
        else:
            starts += row_starts(code, geometry)
    return members, starts


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
        begin: codes of the same window. Those of this geometry join the pool, their taps rounded
            to its width; the taps of others, of another rate or with other parities, are tried
            before random ones.
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
    members, begun = _adopt(begin, geometry, schedule.seed)
    if not pool:
        pool = [(float(squared_errors(code, check).mean()), code) for code in members]
    total = len(begun) + schedule.starts + schedule.bred
    for k in range(tried, total):
        rng = np.random.default_rng([schedule.seed, k])
        if k < len(begun):
            kind, candidate = "begun", begun[k]
        elif k < len(begun) + schedule.starts:
            kind, candidate = "random starts", random_start(geometry, rng)
        else:
            kind, candidate = "bred", breed(pool, geometry, rng)
        code = _train(candidate, schedule, rng)
        error = float(squared_errors(code, check).mean())
        pool = sorted([*pool, (error, code)], key=lambda pair: pair[0])[:_POOL]
        if state is not None:
            entries = [member.definition() for _, member in pool]
            errors = [member_error for member_error, _ in pool]
            write_json(state, {"key": key, "tried": k + 1, "mse": errors, "pool": entries})
        if on_progress:
            on_progress((k + 1) / total, f"{kind}, best MSE {pool[0][0]:.5f}")
    return pool[0][1]
