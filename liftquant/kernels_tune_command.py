"""``liftquant kernels tune``: measure which kernel is best for which layer on the GPU at hand."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from liftquant.console import err, out, print_json, progress
from liftquant.gpu_options import BITS_HELP, SHAPES_HELP

if TYPE_CHECKING:
    from algo.matrix import PackedMatrix
    from gpu.paths import PathLayer
    from gpu.tune import OnProgress, Tuned
    from gpu.tuning_table import Entry, LayerClass, Machine


def tune_kernels(
    file: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The table; by default the GPU's in LIFTQUANT_TUNING or the user's cache."
        ),
    ] = None,
    shapes: Annotated[
        str, typer.Option(help=f"Without a checkpoint: {SHAPES_HELP}")
    ] = "llama-3-8b",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Measure the shapes and codes of this checkpoint.")
    ] = None,
    columns: Annotated[
        str, typer.Option(help="Numbers of columns: tokens times digits per token.")
    ] = "1,2,4,8,16,32,64,128,256,512",
    bits: Annotated[str, typer.Option(help=BITS_HELP)] = "2,2.4,3",
    digits: Annotated[str, typer.Option(help="Digits per activation: 1 (a8), 2 (a15).")] = "1,2",
    axis: Annotated[str, typer.Option(help="Direction of random layers' streams: in, out.")] = (
        "out"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Time every path, tile and split, and write which is best as a table.

    A candidate is compared with the reference first: one that is not equal is dropped and told,
    and the exit status is 1. A run that was stopped goes on when the same command is given again.
    Results of the layers never depend on the table, only their times do.
    """
    from algo.errors import LiftError
    from gpu.tuning_table import table_path, tuning_folder
    from liftquant.gpu_layers import layer_source
    from liftquant.gpu_options import check_file, need_gpu, positive_integers, rates

    counts = positive_integers("--columns", columns)
    depths = positive_integers("--digits", digits)
    if max(depths) > 2:
        raise LiftError(f"--digits {digits}: 1 (a8), 2 (a15) or both are expected")
    make = layer_source(checkpoint, shapes, rates("--bits", bits), axis)
    if file is not None:
        check_file("--out", file)
    machine = need_gpu()
    path = table_path(tuning_folder(), machine) if file is None else file
    check_file("--out", path)
    layers = _classes(make().values(), depths)
    with progress("tuning", len(layers)) as meter:
        tuned = _tuned(layers, counts, machine, path, meter.advance)
    _show(tuned, path, json)
    if tuned.wrong or tuned.table is None:
        raise typer.Exit(1)


def _classes(
    matrices: "Iterable[PackedMatrix]", depths: Sequence[int]
) -> "dict[LayerClass, PathLayer]":
    """One layer of every class; those of one class would only be measured again."""
    from gpu.interpret import as_is
    from gpu.machine import gpu_device
    from gpu.paths import PathLayer

    device = gpu_device()
    layers = [
        PathLayer(matrix, 1 if depth == 1 else 2, device, as_is)
        for matrix in matrices
        for depth in depths
    ]
    first: dict[LayerClass, PathLayer] = {}
    for paths in layers:
        first.setdefault(paths.layer, paths)
    return first


def _tuned(
    layers: "Mapping[LayerClass, PathLayer]",
    columns: Sequence[int],
    machine: "Machine",
    path: Path,
    on_progress: "OnProgress",
) -> "Tuned":
    from gpu import timing
    from gpu.tune import tune
    from gpu.workload import LayerWorkload

    def make(layer: "LayerClass", count: int) -> LayerWorkload:
        return LayerWorkload(layers[layer], count // layer.digits)

    return tune(
        list(layers), columns, machine, make, timing.gpu_timer(), path, on_progress=on_progress
    )


def _show(tuned: "Tuned", path: Path, json: bool) -> None:
    if json:
        print_json(
            {
                "file": None if tuned.table is None else str(path),
                "table": None if tuned.table is None else tuned.table.model_dump(mode="json"),
                "dropped": [dropped.model_dump(mode="json") for dropped in tuned.dropped],
            }
        )
    elif tuned.table is not None:
        for entry in tuned.table.entries:
            out.print(str(entry.layer))
            out.print(tuning_rows(entry))
    for dropped in tuned.dropped:
        err.print(f"{'INEXACT' if dropped.wrong else 'not run'}: {dropped}", soft_wrap=True)
    if tuned.table is None:
        err.print("no candidate was right and could run: no table was written", style="red")
    else:
        err.print(f"table in {path}", soft_wrap=True)


def tuning_rows(entry: "Entry") -> Table:
    """What was chosen for one class."""
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    for heading in ("columns", "choice", "µs (p20–p80)"):
        table.add_column(heading, justify="left" if heading == "choice" else "right")
    for step in entry.steps:
        t = step.microseconds
        time = "" if t is None else f"{t.median:,.1f} ({t.p20:,.1f}–{t.p80:,.1f})"
        table.add_row(str(step.columns), str(step.choice), time)
    return table
