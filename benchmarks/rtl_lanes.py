"""What lanes cost and give in a compiled harness, on one layer of a checkpoint.

``python -m benchmarks.rtl_lanes DIR LAYER [LANES ...]`` prints processor seconds, of this process
and the programs it starts, and the rate of the simulation alone, the layer fed `REPEATS` times.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.table import Table

from algo.checkpoint import Checkpoint
from algo.decode import decode_words
from algo.matrix import PackedMatrix
from hw.decoder import Decoder
from hw.export import export
from hw.geometry import Geometry
from liftquant.console import out
from sim.harness import Harness
from sim.harness_build import build_harness

REPEATS = 20
Result = TypeVar("Result")


def processor_seconds(work: Callable[[], Result]) -> tuple[Result, float, float]:
    """What `work` gives, and the seconds it takes here and in the programs it starts."""
    before = os.times()
    result = work()
    after = os.times()
    here = after.user - before.user + after.system - before.system
    elsewhere = after.children_user - before.children_user
    return result, here, elsewhere + after.children_system - before.children_system


def build(matrix: PackedMatrix, lanes: int, workdir: Path) -> tuple[Harness, float, float]:
    """A harness; processor seconds of export and of Verilator and compiler."""
    code, groups = matrix.code, matrix.groups
    decoder = Decoder(code, groups, lanes)
    (verilog, _), here, yosys = processor_seconds(lambda: export(decoder, workdir / f"{lanes}"))
    geometry = Geometry(code, groups, lanes)
    harness, _, compiling = processor_seconds(
        lambda: build_harness(verilog, geometry, workdir / "programs")
    )
    return harness, here + yosys, compiling


def main(folder: Path, layer: str, lanes: list[int]) -> None:
    """Print a table, a row for each number of lanes."""
    matrix = Checkpoint(folder).matrix(layer)
    code = matrix.code
    expected, oracle, _ = processor_seconds(lambda: decode_words(matrix.words, matrix.groups, code))
    out.print(
        f"{code.name}, {expected.size:,} weights; reference {expected.size / oracle / 1e6:.1f} M "
        "weights per processor second"
    )
    table = Table()
    for heading in ("lanes", "export s", "compile s", "cycles", "M cycles/s", "M weights/s"):
        table.add_column(heading, justify="right")
    with tempfile.TemporaryDirectory() as name:
        workdir = Path(name)
        build(matrix, 2, workdir)  # compiles Verilator's runtime too, which is not counted
        for number in lanes:
            harness, exporting, compiling = build(matrix, number, workdir)
            pieces = [(matrix.words, expected)] * REPEATS
            found, _, running = processor_seconds(partial(harness.run, pieces))
            assert found.passed, found
            table.add_row(
                str(number), f"{exporting:.1f}", f"{compiling:.1f}", f"{found.cycles:,}",
                f"{found.cycles / running / 1e6:.2f}", f"{found.weights / running / 1e6:.1f}",
            )  # fmt: skip
    out.print(table)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(Path(given[0]), given[1], [int(number) for number in given[2:]] or [1, 4, 8, 32])
