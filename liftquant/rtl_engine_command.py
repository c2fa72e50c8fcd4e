"""``liftquant rtl export-engine``: a whole layer in integers as Verilog."""

from pathlib import Path
from typing import Annotated

import typer

from liftquant.console import err, out


def export_layer_engine(
    code: Annotated[str, typer.Argument(help="A code's name, say LQ-12/5+9, or a code file.")],
    folder: Annotated[Path, typer.Argument(help="Directory for the .v and .json files.")],
    rows: Annotated[int, typer.Option(min=1, help="Outputs of the layer.")],
    columns: Annotated[int, typer.Option(min=1, help="Inputs of the layer.")],
    lanes: Annotated[int, typer.Option(min=1, help="Sign bits per cycle.")] = 64,
    builders: Annotated[int, typer.Option(min=1, help="Tables written at a time.")] = 1,
    width: Annotated[int, typer.Option(help="Bits of an output, with --scale.")] = 8,
    scale: Annotated[
        str | None,
        typer.Option(help="Requantise, out:MULTIPLIER_BITS:SHIFT; without, outputs are sums."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the module and files.")] = "liftquant_engine",
) -> None:
    """Write a layer's engine as Verilog: activations and sign bits in, integer outputs out."""
    from algo.shipped import find_code
    from hw.engine import Engine
    from hw.export import check_destination
    from hw.export_engine import export_engine
    from hw.output import Output, parse_scale

    check_destination(folder, name)  # before there is an engine, which Amaranth wants used
    chosen = find_code(code)
    output = None if scale is None else Output(width, parse_scale(scale))
    engine = Engine(chosen, rows, columns, lanes, builders, output)
    for path in export_engine(engine, folder, name):
        out.print(str(path), soft_wrap=True)
    geometry = engine.geometry
    err.print(
        f"{rows}x{columns} in {chosen.name}: {float(geometry.peak_weights_per_cycle):.1f} weights "
        f"per cycle while rows stream, {float(geometry.weights_per_cycle):.1f} sustained"
    )
