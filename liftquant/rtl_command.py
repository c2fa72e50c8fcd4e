"""``liftquant rtl``: the decoder for hardware designers."""

from pathlib import Path
from typing import Annotated

import typer

from liftquant.console import err, out
from liftquant.rtl_engine_command import export_layer_engine
from liftquant.rtl_faults_command import faults
from liftquant.rtl_mutate_command import mutate
from liftquant.rtl_prove_command import prove
from liftquant.rtl_synth_command import synth
from liftquant.rtl_vectors_command import vectors
from liftquant.rtl_verify_command import verify

rtl = typer.Typer(help="Decoders in hardware: ours and your own.", no_args_is_help=True)
rtl.command("verify")(verify)
rtl.command("vectors")(vectors)
rtl.command("prove")(prove)
rtl.command("synth")(synth)
rtl.command("export-engine")(export_layer_engine)
rtl.command("mutate")(mutate)
rtl.command("faults")(faults)


@rtl.callback()
def group() -> None:
    """Decoders in hardware: export ours as Verilog and prove it, verify your own."""


@rtl.command("export")
def export_decoder(
    code: Annotated[str, typer.Argument(help="A code's name, say LQ-24/10, or a code file.")],
    folder: Annotated[Path, typer.Argument(help="Directory for the .v and .json files.")],
    weights: Annotated[int, typer.Option(min=1, help="Weights in one stream.")],
    lanes: Annotated[int, typer.Option(min=1, help="Groups in one output beat.")] = 1,
    architecture: Annotated[
        str,
        typer.Option(
            help="tables:K, tree or shared:C; then ,inputs=K ,levels=N ,flow=chain|credit.",
        ),
    ] = "tables:4",
    width: Annotated[
        int, typer.Option(help="Bits of a weight: 12 hold any sum, fewer saturate it.")
    ] = 12,
    scale: Annotated[
        str | None,
        typer.Option(help="Requantise, AXIS:MULTIPLIER_BITS:SHIFT, say in:16:20."),
    ] = None,
    mark_last: Annotated[
        bool, typer.Option("--mark-last", help="A port that marks a stream's last beat.")
    ] = False,
    name: Annotated[str, typer.Option(help="Name of the module and files.")] = "liftquant_decoder",
) -> None:
    """Write the decoder of a code as Verilog, with a JSON sidecar that describes it.

    Beside them: templates for its instance (.template.v, .component.vhd), a block diagram
    (.block.svg), and a timing diagram (.timing.svg) drawn from a simulation of this decoder.
    """
    from algo.packing import stream_groups
    from algo.shipped import find_code
    from hw.block_diagram import decoder_blocks
    from hw.decoder import Decoder
    from hw.export import check_destination, export
    from hw.output import Output, parse_scale
    from sim.timing_diagram import decoder_timing

    check_destination(folder, name)  # before there is a decoder, which Amaranth wants used
    chosen = find_code(code)
    output = Output(width, None if scale is None else parse_scale(scale))
    groups = stream_groups(weights, chosen)
    # one to simulate, one to export: Amaranth elaborates an object once
    simulated, decoder = (
        Decoder(chosen, groups, lanes, architecture, output, mark_last) for _ in range(2)
    )
    pictures = {"block": decoder_blocks(decoder.geometry), "timing": decoder_timing(simulated)}
    for path in export(decoder, folder, name, pictures):
        out.print(str(path), soft_wrap=True)
    err.print(
        f"{chosen.name} by {decoder.geometry.architecture}: streams of {decoder.geometry.groups} "
        f"groups, {lanes} per beat, cycles per beat {decoder.geometry.architecture.cycles}, "
        f"latency {decoder.latency} cycles"
    )


@rtl.command("export-loadable")
def export_loadable_decoder(
    folder: Annotated[Path, typer.Argument(help="Directory for the .v and .json files.")],
    lifted: Annotated[int, typer.Option(help="Largest D, or largest shift of a sliding code.")],
    group: Annotated[int, typer.Option(help="Largest d.")],
    window: Annotated[int, typer.Option(help="Largest window.")],
    parities: Annotated[int, typer.Option(help="Most parities.")] = 0,
    code: Annotated[
        str | None, typer.Option(help="List the writes that load this code, with --weights.")
    ] = None,
    weights: Annotated[int | None, typer.Option(min=1, help="Weights in one stream.")] = None,
    name: Annotated[str, typer.Option(help="Name of the module and files.")] = "liftquant_loadable",
) -> None:
    """Write a decoder whose code is loaded through a register bus as Verilog, with a sidecar.

    Beside them: templates for its instance, a block diagram and, with --code, a timing diagram of
    a simulation that loads the code.
    """
    from algo.errors import LiftError
    from algo.packing import stream_groups
    from algo.shipped import find_code
    from hw.block_diagram import loadable_blocks
    from hw.capacity import Capacity
    from hw.export import check_destination
    from hw.export_loadable import export_loadable, export_writes
    from sim.timing_diagram import loadable_timing

    if (code is None) != (weights is None):
        raise LiftError("--code and --weights say together what to load; give both or neither")
    check_destination(folder, name)
    capacity = Capacity(lifted, group, window, parities)
    pictures = {"block": loadable_blocks(capacity)}
    paths = []
    if code is not None and weights is not None:
        chosen = find_code(code)
        groups = stream_groups(weights, chosen)
        pictures["timing"] = loadable_timing(capacity, chosen, groups)
        paths.append(export_writes(capacity, chosen, groups, folder, name))
    for path in [*export_loadable(capacity, folder, name, pictures), *paths]:
        out.print(str(path), soft_wrap=True)
