"""``liftquant rtl faults``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from liftquant.console import out, print_json, progress
from liftquant.rtl_geometry import decoder_geometry, described, geometry_line

if TYPE_CHECKING:
    from sim.faults import FaultResult


def faults(
    code: Annotated[
        str, typer.Argument(help="A code's name, say LQ-24/10, or a code file.")
    ] = "LQ-2/1+6",
    weights: Annotated[int, typer.Option(min=1, help="Weights in one stream.")] = 50,
    lanes: Annotated[int, typer.Option(min=1, help="Groups decoded per clock cycle.")] = 1,
    architecture: Annotated[
        str, typer.Option(help="Of the projection, as `rtl export` takes it.")
    ] = "tables:4",
    count: Annotated[int, typer.Option("--faults", min=1, help="Bits to flip.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Of faults, streams and stalls.")] = 0,
    report_file: Annotated[
        Path | None, typer.Option("--report", help="Also write the result to this JSON file.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Flip bits in a running decoder, one in each run, and see what becomes of its weights.

    A flipped bit of a stream must change the weights whose window holds it, by what the code says,
    and no others; a flip-flop that data reach, only weights that depend on what was inside. Exit
    status 0: so it was, and a reset always helped; 1: it was not; 2: it could not be tried.
    """
    from dataclasses import asdict

    from algo.files import write_json
    from hw.netlist import map_verilog
    from hw.prove import decoder_verilog
    from sim.faults import try_faults

    geometry = decoder_geometry(code, weights, lanes, architecture)
    with progress("faults", count):
        result = try_faults(geometry, map_verilog(decoder_verilog(geometry)), count, seed)
    values = {
        **described(geometry),
        "seed": seed,
        "passed": result.passed,
        "counts": result.counts(),
        "most_changed": {kind: most for kind, (most, _) in result.most_changed().items()},
        "faults": [asdict(fault) for fault in result.faults],
    }
    if report_file:
        write_json(report_file, values)
    if json:
        print_json(values)
    else:
        _show(f"{geometry_line(geometry)}, seed {seed}", result)
    if not result.passed:
        raise typer.Exit(1)


def _show(subject: str, result: "FaultResult") -> None:
    from sim.faults import EFFECTS, KINDS

    table = Table(title=subject, title_justify="left")
    table.add_column("flipped", no_wrap=True)
    for effect in EFFECTS:
        table.add_column(effect, justify="right", no_wrap=True)
    table.add_column("most weights wrong", justify="right")
    counts, most = result.counts(), result.most_changed()
    for kind in KINDS:
        cells = [str(counts[kind].get(effect, 0)) for effect in EFFECTS]
        table.add_row(kind, *cells, str(most[kind][0]) if kind in most else "")
    out.print(table)
    for name, meaning in {**KINDS, **EFFECTS}.items():
        out.print(f"{name}: {meaning}", soft_wrap=True)
    for fault in result.faults:
        if not (fault.kept and fault.recovered):
            what = "past its bound" if not fault.kept else "not undone by a reset"
            out.print(f"WRONG, {what}: {fault}", style="red", soft_wrap=True)
    held = sum(fault.kept and fault.recovered for fault in result.faults)
    out.print(f"{held} of {len(result.faults)} faults as they must be")
