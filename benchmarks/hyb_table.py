"""The table of `hw.peers.hyb`, made anew: ``python -m benchmarks.hyb_table`` prints it.

QTIP's HYB takes its table from k-means on Gaussian vectors and lets a sign bit reflect it (arXiv
2406.11235, section 3.2). Here Lloyd steps run on vectors whose first component is made positive;
centres are then rounded to odd multiples of 1/32 and sorted. The hash deals entries out to states
in an order of its own, so theirs is free; of those tried (random, sorted, in 16 to 64 columns) the
sorted one had the least error in the trellis.
"""

import numpy as np
import numpy.typing as npt

ENTRIES, SAMPLES, STEPS, SEED = 512, 200_000, 60, 0
UNIT = 32  # table entries are odd multiples of 1/UNIT

Floats = npt.NDArray[np.float32]


def nearest(points: Floats, centres: Floats) -> npt.NDArray[np.intp]:
    """The nearest centre of every point, both ``(n, 2)``."""
    half = np.square(centres).sum(axis=1) / 2
    return np.concatenate(
        [(half - block @ centres.T).argmin(axis=1) for block in np.array_split(points, 50)]
    )


def train() -> npt.NDArray[np.int64]:
    """int64 ``(512, 2)``: odd integers, in the table's order."""
    rng = np.random.default_rng([SEED, 0x485942])
    points = rng.standard_normal((SAMPLES, 2), dtype=np.float32)
    points[:, 0] = np.abs(points[:, 0])
    centres = points[:ENTRIES].copy()
    for _ in range(STEPS):
        chosen = nearest(points, centres)
        counts = np.maximum(np.bincount(chosen, minlength=ENTRIES), 1)
        for axis in range(2):
            sums = np.bincount(chosen, points[:, axis], ENTRIES)
            centres[:, axis] = sums / counts
    entries = 2 * np.floor(centres * UNIT / 2).astype(np.int64) + 1
    table: npt.NDArray[np.int64] = entries[np.lexsort((entries[:, 1], entries[:, 0]))]
    return table


if __name__ == "__main__":
    for row in train().astype(np.int8).reshape(-1, 32):
        print(f'    "{row.tobytes().hex()}"')
