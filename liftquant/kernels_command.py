"""``liftquant kernels``: the GPU kernels, compiled offline."""

from pathlib import Path
from typing import Annotated

import typer

from algo.errors import LiftError
from liftquant.console import err, out, print_json, progress
from liftquant.estimate_command import estimate

kernels = typer.Typer(
    help="The GPU kernels: compiled offline, estimated, tuned.", no_args_is_help=True
)


@kernels.callback()
def group() -> None:
    """The GPU kernels: compiled offline, estimated, tuned."""


@kernels.command("build")
def build_kernels(
    arch: Annotated[
        str, typer.Option(help="Targets, separated by commas.")
    ] = "sm_80,sm_89,sm_90,sm_100,gfx942",
    kernel: Annotated[
        str, typer.Option(help="Only kernels whose name begins like this; all unless given.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    write: Annotated[
        Path | None, typer.Option(help="Write the report to this file, as JSON.")
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="Compare with this report; exit with 1 where a figure got worse."),
    ] = None,
) -> None:
    """Compile every kernel to machine code and print what it takes. Needs no GPU, runs nothing.

    Of the loop that does the work: instructions by class, and lane-instructions per bit, weight or
    value, counted in the machine code. `benchmarks/kernels.json` is the report that tests compare
    with.
    """
    from algo.files import check_folder
    from gpu.build import all_jobs, build, check_targets
    from gpu.report import document, read_report, unrecorded, worse, write_report
    from liftquant.kernels_table import kernels_table

    before = read_report(baseline) if baseline else None
    if before is not None:
        before["kernels"] = [k for k in before["kernels"] if k["kernel"].startswith(kernel)]
    if write is not None:
        check_folder(write.absolute().parent)
        if write.is_dir():
            raise LiftError(f"{write} is a directory; name a file")
    targets = list(dict.fromkeys(name.strip() for name in arch.split(",") if name.strip()))
    check_targets(targets)
    jobs = [job for job in all_jobs() if job.kernel.startswith(kernel)]
    if not jobs:
        raise LiftError(f"no kernel is called {kernel!r}...; all are compiled without --kernel")
    total = sum(job.suits(target) for target in targets for job in jobs)
    with progress("compiling", total) as meter:
        reports = build(targets, jobs, lambda r: meter.advance(1, f"{r.kernel} for {r.target}"))
    record = document(reports)
    if write is not None:
        write_report(write, record)
    if json:
        print_json(record)
    else:
        out.print(kernels_table(record, wide=out.width >= 112))
    if before is None:
        return
    if before["versions"] != record["versions"]:
        err.print(f"{baseline} was written with {before['versions']}, this is {record['versions']}")
    for line in unrecorded(record, before):
        err.print(f"not in {baseline}: {line}", soft_wrap=True)
    changes = worse(record, before)
    for line in changes:
        err.print(f"worse: {line}", style="red", soft_wrap=True)
    if changes:
        raise typer.Exit(1)
    err.print(f"nothing worse than in {baseline}", soft_wrap=True)


kernels.command("estimate")(estimate)
