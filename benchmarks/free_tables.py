"""How far 12-bit windows reach at all: shipped codes beside free tables of the same window.

``python -m benchmarks.free_tables [RATE ...]``; see `algo.free_table`.
"""

import math
import sys

import numpy as np

from algo.free_table import table_mse, train_table
from algo.shipped import best_code, shipped_codes
from algo.viterbi import window_values
from liftquant.console import out, progress

RATES = (1.5, 2.0, 2.4, 3.0, 3.5, 3.6, 3.7, 3.8, 3.9, 4.0)
STEPS, WEIGHTS, MEASURED, SEED = 40, 400_000, 1_000_000, 0


def measure(rate: float) -> dict[str, float]:
    """Gaps in dB: the linear code, the one with parities, and the best free table from three."""
    codes = [best_code(rate), best_code(rate, parities=True)]
    rng = np.random.default_rng(SEED)
    noise = rng.standard_normal(window_values(codes[0]).shape) * math.sqrt(1 - 4**-rate)
    gaps = {
        name: shipped_codes()[code.name].gap
        for name, code in zip(("linear", "parities"), codes, strict=True)
    }
    starts = {
        "from linear": window_values(codes[0]),
        "from parities": window_values(codes[1]),
        "from random": noise.astype(np.float32),
    }
    with progress(f"{rate:g} bits", len(starts) * STEPS) as meter:
        for name, table in starts.items():
            trained = train_table(codes[0], table, STEPS, WEIGHTS, SEED, lambda _: meter.advance(1))
            mse, _ = table_mse(codes[0], trained, MEASURED, SEED + 1)
            gaps[name] = 10 * math.log10(mse * 4**rate)
    return gaps


if __name__ == "__main__":
    for rate in [float(text) for text in sys.argv[1:]] or RATES:
        gaps = measure(rate)
        out.print(f"{rate:g}: " + ", ".join(f"{name} {gap:.3f} dB" for name, gap in gaps.items()))
