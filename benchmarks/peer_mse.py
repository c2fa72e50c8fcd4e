# amaranth: UnusedElaboratable=no
"""What the peers of `hw.peers` reach on N(0, 1): ``python -m benchmarks.peer_mse [NAME ...]``.

The integers are those of each decoder's reference, the encoder the best known, the scale the best:
grids and E8P choose the nearest codeword exactly; QTIP's trellises are searched by the Viterbi
algorithm over all their states (`algo.viterbi`, tail-biting streams of 2048 weights). The scale is
where a parabola through five trial scales is lowest, and the figure comes from fresh samples.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from algo.free_table import table_mse
from hw.peers import PEERS
from hw.peers.e8p import magnitudes
from hw.peers.lanes import Integers, LaneDecoder
from hw.peers.peer import Peer
from liftquant.console import out, progress

TRIAL, SEARCHED, NEAREST, SEED = 50_000, 200_000, 1_000_000, 0  # weights
STEPS = {2: 1.0, 4: 0.335}  # of uniform grids, about
SPREAD = (0.96, 0.98, 1.0, 1.02, 1.04)  # trial scales about the middle one


@dataclass(frozen=True)
class Windows:
    """The part of a sliding code that its search reads, wider than any code's may be."""

    shift: int  # bits per weight
    group: int
    window: int

    @property
    def lifted(self) -> int:
        return self.shift * self.group

    @property
    def shifts(self) -> tuple[int, ...]:
        return (self.shift,) * self.group

    @property
    def starts(self) -> tuple[int, ...]:
        return tuple(self.shift * k for k in range(self.group))


Floats = npt.NDArray[np.float64]
Measure = Callable[[float, int, int], tuple[float, float]]  # scale, weights, seed


def best_scale(measure: Measure, middle: float) -> float:
    """Where a parabola through measurements about `middle`, on the same samples, is lowest."""
    trials = [measure(middle * spread, TRIAL, SEED)[0] for spread in SPREAD]
    square, slope, _ = np.polyfit(SPREAD, trials, 2)
    return float(middle * -slope / (2 * square))


def mean_and_error(errors: Floats) -> tuple[float, float]:
    """Mean of squared errors by codeword, and its standard error."""
    return float(errors.mean()), float(errors.std(ddof=1) / len(errors) ** 0.5)


def grid(levels: Integers) -> Measure:
    """A scalar grid."""

    def measure(scale: float, weights: int, seed: int) -> tuple[float, float]:
        x = np.random.default_rng([seed, 1]).standard_normal(weights)
        points = np.sort(levels) * scale
        above = np.searchsorted((points[1:] + points[:-1]) / 2, x)
        return mean_and_error(np.square(x - points[above]))

    return measure


def e8p(scale: float, weights: int, seed: int) -> tuple[float, float]:
    """E8P, exactly: for both moves and all 256 magnitudes the best signs of the right parity."""
    sizes = magnitudes()
    table = (4 * sizes + 2) * scale  # quarters
    odd = (sizes == 1).sum(axis=1) & 1
    x = np.random.default_rng([seed, 1]).standard_normal((weights // 8, 8))
    errors = []
    for block in np.array_split(x, max(1, len(x) // 500)):
        least = np.full(len(block), np.inf)
        for move in (-scale, scale):
            y = block - move
            size = np.abs(y)
            base = np.square(y).sum(axis=1)[:, None] + np.square(table).sum(axis=1)
            plain = base - 2 * size @ table.T
            # a sign of the wrong parity is put right where that costs least
            wrong = ((y < 0).sum(axis=1)[:, None] ^ odd) & 1
            cheapest = 4 * (size[:, None, :] * table).min(axis=2)
            least = np.minimum(least, (plain + wrong * cheapest).min(axis=1))
        errors.append(least / 8)
    return mean_and_error(np.concatenate(errors))


def trellis_table(values: Integers) -> tuple[Windows, npt.NDArray[np.float32]]:
    """The geometry of QTIP's bitshift trellis at two bits per weight, and its values by window.

    `values` are ``(65536, V)``. The trellis is searched backwards in time, which reverses the bits
    of a window's place in the stream and changes nothing else. Two weights that share a window are
    two weights whose windows of 18 bits each see the shared 16.
    """
    if values.shape[1] == 1:
        return Windows(2, 1, 16), values.T.astype(np.float32)
    window = np.arange(1 << 18)
    rows = [values[window >> 2, 0], values[window & (1 << 16) - 1, 1]]
    return Windows(2, 2, 18), np.stack(rows).astype(np.float32)


def trellis(values: Integers) -> Measure:
    """QTIP's bitshift trellis of 16 bits."""
    windows, table = trellis_table(values)

    def measure(scale: float, weights: int, seed: int) -> tuple[float, float]:
        return table_mse(windows, table * np.float32(scale), weights, seed)

    return measure


@dataclass(frozen=True)
class Plan:
    """How a peer is measured: a scale to look about, and how many weights the figure is from."""

    measure: Measure
    middle: float
    weights: int


def plan(peer: Peer) -> Plan:
    """How `peer` is measured."""
    decoder = peer.build(1)
    assert isinstance(decoder, LaneDecoder)
    if peer.name == "E8P":
        return Plan(e8p, 0.24, NEAREST)
    values = decoder.reference(np.arange(1 << peer.bits))
    if peer.bits == 16:
        return Plan(trellis(values), float(1 / values.std()), SEARCHED)
    if "zero point" in peer.name:  # the best one is in the middle, rounded
        half = 1 << int(peer.rate) - 1
        return Plan(grid(np.arange(-half, half)), STEPS[int(peer.rate)], NEAREST)
    return Plan(grid(values[:, 0]), STEPS[int(peer.rate)] / 2, NEAREST)


if __name__ == "__main__":
    known = {peer.name: peer for peer in PEERS if not math.isnan(peer.mse)}
    for name in sys.argv[1:] or known:
        planned = plan(known[name])
        with progress(name, 2) as meter:
            scale = best_scale(planned.measure, planned.middle)
            meter.advance(1)
            mse, error = planned.measure(scale, planned.weights, SEED + 1)
            meter.advance(1)
        out.print(f"{name}: {mse:.5f} +- {error:.5f} at {scale:.6g}")
