"""Speeds that the README quotes, measured on this machine: ``make bench``.

One core for the searches (side by side with the paper's heuristic), medians of repeated runs.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from algo.code import LiftCode
from algo.decode import decode_bits
from algo.nullspace import CACHED, PLAIN, encode_groups_by_nullspace
from algo.packing import extend_words, stream_groups, stream_words
from algo.search import encode
from algo.shipped import REFERENCE, load_code

RUNS = 5
console = Console(highlight=False, width=100)


def median_seconds(work: Callable[[], object], runs: int = RUNS) -> float:
    """Median wall time after one run that does not count."""
    work()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def mse(bits: np.ndarray, targets: np.ndarray, code: LiftCode) -> float:
    decoded = decode_bits(bits, code)[:, : targets.shape[1]] * 2.0**-code.exponent
    return float(np.square(targets - decoded).mean())


def searches() -> Table:
    """Seconds per million weights on one core, and what they buy, against the paper's search.

    The heuristic is timed as one writes it first, in large batches, and blocked for the cache.
    """
    table = Table(title="search, one core: seconds per million weights", title_justify="left")
    for heading in ("code", "seconds", "MSE", "null-space, plain", "in cache", "its MSE", "ratios"):
        table.add_column(heading, justify="left" if heading == "code" else "right")
    rng = np.random.default_rng(0)
    for name in (*REFERENCE, "LQ-2/1+14^16"):
        code = load_code(name)
        targets = rng.standard_normal((500, 576)).astype(np.float32)
        ours = median_seconds(partial(encode, targets, code, 1)) / targets.size * 1e6
        row = [name, f"{ours:.2f}", f"{mse(encode(targets, code, 1), targets, code):.4f}"]
        if not code.overlap:
            count = {16: 32768, 24: 512}[code.lifted]
            groups = rng.standard_normal((count, code.group)).astype(np.float32)
            theirs = [
                median_seconds(partial(encode_groups_by_nullspace, groups, code, many), 3)
                * 1e6 / groups.size
                for many in (PLAIN, CACHED)
            ]  # fmt: skip
            found = encode_groups_by_nullspace(groups, code)
            row += [f"{t:.1f}" for t in theirs]
            row += [f"{mse(found, groups, code):.4f}", ", ".join(f"{t / ours:.0f}" for t in theirs)]
        table.add_row(*row)
    return table


def benches() -> Table:
    """Decoded weights per second through the cocotb bench on Verilator."""
    from sim.verify import simulate_decoder

    table = Table(title="LQ-24/10 on Verilator through cocotb", title_justify="left")
    for heading in ("groups per beat", "stalls", "weights", "weights per second"):
        table.add_column(heading, justify="right")
    code = load_code("LQ-24/10")
    groups = stream_groups(640, code)
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        for lanes in (1, 4, 8):
            shape = (200 * lanes, stream_words(groups, code))
            words = rng.integers(0, 2**32, shape, dtype=np.uint64).astype(np.uint32)
            for stall in (0.25, 0.0):
                rates = []
                for seed in range(3):
                    result = simulate_decoder(
                        code, words, groups, lanes, seed=seed, stalls=(stall, stall),
                        workdir=Path(folder) / str(lanes),
                    )  # fmt: skip
                    assert result.passed, result.summary()
                    rates.append(result.weights / result.seconds)
                table.add_row(
                    str(lanes),
                    f"{stall:g}",
                    f"{result.weights:,}",
                    f"{statistics.median(rates):,.0f}",
                )
    return table


def interpreter() -> Table:
    """The decode kernel under Triton's interpreter beside the oracle."""
    from algo.decode import decode_words
    from gpu.interpret import interpreted_decode

    table = Table(title="LQ-12/5+9, 2.2 million weights", title_justify="left")
    table.add_column("decoder")
    table.add_column("seconds", justify="right")
    code = load_code("LQ-12/5+9")
    groups = stream_groups(1536, code)
    shape = (1440, stream_words(groups, code))
    words = np.random.default_rng(1).integers(0, 2**32, shape, dtype=np.uint64).astype(np.uint32)
    words[:, -1] &= (1 << groups * code.lifted % 32) - 1
    extended = extend_words(words, groups, code)
    oracle = median_seconds(lambda: decode_words(words, groups, code))
    kernel = median_seconds(lambda: interpreted_decode(extended, code, groups))
    table.add_row("reference (numpy)", f"{oracle:.2f}")
    table.add_row("Triton kernel, interpreted", f"{kernel:.2f}")
    return table


def main() -> None:
    torch.set_num_threads(1)
    for part in (searches, benches, interpreter):
        console.print(part())
        sys.stdout.flush()


if __name__ == "__main__":
    main()
