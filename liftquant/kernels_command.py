"""``liftquant kernels``: the GPU kernels, compiled offline."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from liftquant.console import out, print_json, progress
from liftquant.estimate_command import estimate

kernels = typer.Typer(help="Compile the GPU kernels offline.", no_args_is_help=True)


@kernels.callback()
def group() -> None:
    """Compile the GPU kernels offline."""


@kernels.command("build")
def build_kernels(
    arch: Annotated[str, typer.Option(help="Targets, separated by commas.")] = "sm_80,sm_90,gfx942",
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compile every kernel to machine code and print what it takes. Needs no GPU, runs nothing."""
    from gpu.build import NOTE, build

    targets = [name for name in arch.split(",") if name]
    reports = []
    with progress("compiling", len(targets)) as meter:
        for target in targets or [arch]:
            reports += build([target])
            meter.advance(1, target)
    if json:
        print_json([asdict(report) for report in reports])
        return
    table = Table(title=f"kernels: {NOTE}", title_justify="left")
    left = ("kernel", "code", "target")
    for heading in (
        "kernel",
        "code",
        "target",
        "registers",
        "spills",
        "shared bytes",
        "code bytes",
    ):
        table.add_column(heading, justify="left" if heading in left else "right")
    for r in reports:
        table.add_row(
            r.kernel, r.code, r.target, str(r.registers), str(r.spills), f"{r.shared_bytes:,}",
            f"{r.code_bytes:,}",
        )  # fmt: skip
    out.print(table)


kernels.command("estimate")(estimate)
