"""``liftquant crosscheck``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from liftquant.console import err, out, print_json, progress

if TYPE_CHECKING:
    from liftquant.crosschecking import LayerCheck, Settings


def report(folder: Path, checks: "list[LayerCheck]", settings: "Settings") -> dict[str, Any]:
    """The outcome as JSON values."""
    return {
        "checkpoint": str(folder),
        "passed": all(check.passed for check in checks),
        **asdict(settings),
        "layers": [{**asdict(check), "passed": check.passed} for check in checks],
    }


_WIDE = 120  # columns of a terminal that the whole table needs
_MORE_COLUMNS = ("bits/weight", "cycles")


def check_table(checks: "list[LayerCheck]") -> Table:
    """The outcome for people; fewer columns where all would not fit."""
    table = Table(title="reference = RTL = kernel, integer by integer", title_justify="left")
    wide = out.width >= _WIDE
    for heading in ("layer", "shape", *_MORE_COLUMNS * wide, "weights", "RTL wrong",
                    "kernel wrong", "outputs wrong", "first mismatch"):  # fmt: skip
        text = heading in ("layer", "first mismatch")
        # only names may wrap, never numbers
        table.add_column(
            heading, justify="left" if text else "right", overflow="fold", no_wrap=not text
        )
    for check in checks:
        first = "none"
        if (bad := check.first_mismatch) is not None:
            first = (
                f"{bad.implementation} ({bad.row}, {bad.column}): expected {bad.expected}, "
                f"got {bad.got}"
            )
        if check.failure:
            first += f"; {check.failure}"
        more = (f"{check.bits_per_weight:.3f}", f"{check.cycles:,}")
        table.add_row(
            check.layer, f"{check.shape[0]}x{check.shape[1]}", *more * wide, f"{check.weights:,}",
            f"{check.mismatches['rtl']:,}", f"{check.mismatches['kernel']:,}",
            f"{check.mismatches['layer']:,}", first,
        )  # fmt: skip
    return table


def crosscheck(
    folder: Annotated[Path, typer.Argument(help="A checkpoint directory.")],
    layer: Annotated[
        list[str] | None,
        typer.Option(help="A layer to check; may be given often. One of every shape by default."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Every weight of every layer (or of each --layer) through the RTL alone, in a "
            "compiled harness; goes on where it was stopped.",
        ),
    ] = False,
    simulator: Annotated[str, typer.Option(help="verilator, icarus or amaranth.")] = "verilator",
    lanes: Annotated[
        int, typer.Option(min=1, help="Groups per clock cycle of the simulated decoder.")
    ] = 4,
    architecture: Annotated[
        str, typer.Option(help="Of the decoder, as `liftquant rtl export` takes it.")
    ] = "tables:4",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random stalls.")] = 0,
    stall: Annotated[
        float, typer.Option(min=0, max=0.9, help="Probability of a stall, at either side.")
    ] = 0.25,
    workdir: Annotated[
        Path | None,
        typer.Option(help="Keep Verilog, builds and logs here. With --all: crosscheck-all."),
    ] = None,
    waves: Annotated[
        bool, typer.Option("--waves", help="Record the simulation's waveforms in --workdir.")
    ] = False,
    report_file: Annotated[
        Path | None, typer.Option("--report", help="Also write the result to this JSON file.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Prove that reference, RTL and GPU kernel decode a checkpoint alike.

    The packed words of the checkpoint go through the integer reference, the hardware decoder
    (exported to Verilog and simulated) and the Triton kernel (under Triton's interpreter). Then
    these kernels and the CPU's whiten, quantise and multiply a few tokens by each layer, and every
    bit of the outputs is compared. Exit status 0: all are equal; 1: some are not; 2: it could not
    be checked.

    With --all the RTL alone is compared, on every weight there is, at the rate of a compiled
    program; layers that passed are recorded in --workdir and skipped when the command is repeated.
    """
    from algo.checkpoint import Checkpoint
    from algo.errors import LiftError
    from algo.files import check_folder, write_json
    from liftquant import crosschecking as library

    if workdir is not None:
        check_folder(workdir)
    if waves and workdir is None:
        raise LiftError("--waves needs --workdir DIR, where the waveform files are kept")
    checkpoint = Checkpoint(folder)
    if every:
        if waves or simulator != "verilator":
            raise LiftError(
                "--all compiles the RTL with Verilator and records no waveforms; leave out "
                "--simulator and --waves, and look at a wrong layer with --layer NAME instead"
            )
        from liftquant import every_weight
        from liftquant.every_weight_command import check_every_weight
        from liftquant.rtl_layer import Stalls

        chosen = every_weight.Settings(lanes, architecture, Stalls(seed, stall))
        kept = workdir or Path("crosscheck-all")
        check_every_weight(checkpoint, chosen, layer, kept, report_file, json)
        return
    settings = library.Settings(simulator, lanes, seed, (stall, stall), waves, architecture)
    err.print(f"{simulator}, {lanes} groups per cycle, stalls {stall} on both sides, seed {seed}")
    with progress("crosschecking") as meter:
        checks = library.crosscheck(
            checkpoint, layer, settings, workdir, meter.start, meter.advance
        )
    result = report(folder, checks, settings)
    if report_file:
        write_json(report_file, result)
    if json:
        print_json(result)
    else:
        out.print(check_table(checks))
        for check in checks:
            if check.waves:
                out.print(f"waveforms of {check.layer}: {check.waves}", soft_wrap=True)
        total = sum(check.weights for check in checks)
        outputs = sum(check.outputs for check in checks)
        out.print(
            f"{total:,} integers equal in all three, and {outputs:,} outputs of the layers by the "
            "kernels of GPU and CPU."
            if result["passed"]
            else "NOT equal.",
            style="green" if result["passed"] else "red",
        )
    if not result["passed"]:
        raise typer.Exit(1)
