"""``liftquant rtl``: the decoder for hardware designers."""

from pathlib import Path
from typing import Annotated

import typer

from liftquant.console import err, out
from liftquant.rtl_prove_command import prove

rtl = typer.Typer(help="Export the decoder as Verilog, and prove it.", no_args_is_help=True)
rtl.command("prove")(prove)


@rtl.callback()
def group() -> None:
    """Export the decoder as Verilog, and prove it."""


@rtl.command("export")
def export_decoder(
    code: Annotated[str, typer.Argument(help="A code's name, say LQ-24/10, or a code file.")],
    folder: Annotated[Path, typer.Argument(help="Directory for the .v and .json files.")],
    weights: Annotated[int, typer.Option(min=1, help="Weights in one stream.")],
    lanes: Annotated[int, typer.Option(min=1, help="Groups decoded per clock cycle.")] = 1,
    name: Annotated[str, typer.Option(help="Name of the module and files.")] = "liftquant_decoder",
) -> None:
    """Write the decoder of a code as Verilog, with a JSON sidecar that describes it."""
    from algo.packing import stream_groups
    from algo.shipped import find_code
    from hw.decoder import Decoder
    from hw.export import check_destination, export

    check_destination(folder, name)  # before there is a decoder, which Amaranth wants used
    chosen = find_code(code)
    decoder = Decoder(chosen, stream_groups(weights, chosen), lanes)
    for path in export(decoder, folder, name):
        out.print(str(path), soft_wrap=True)
    err.print(
        f"{chosen.name}: streams of {decoder.geometry.groups} groups, {lanes} per cycle, latency "
        f"{decoder.latency} cycles"
    )
