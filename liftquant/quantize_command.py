"""``liftquant quantize``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from liftquant.console import err, out, print_json, progress


def quantize(
    model: Annotated[
        str,
        typer.Argument(help="A Hugging Face directory or hub id (safetensors), or a .gguf file."),
    ],
    folder: Annotated[Path, typer.Argument(help="The checkpoint directory to write.")],
    bits: Annotated[
        float, typer.Option(help="Bits per weight; the best shipped code of this rate is taken.")
    ] = 2.4,
    code: Annotated[
        str | None,
        typer.Option(help="Instead of --bits: a code's name, or a code file (.json)."),
    ] = None,
    axis: Annotated[
        str, typer.Option(help="Direction of the streams: out (columns) or in (rows).")
    ] = "out",
    calib: Annotated[
        str,
        typer.Option(
            help="Text to calibrate with: builtin, a UTF-8 file, or none for plain rounding."
        ),
    ] = "builtin",
    calib_tokens: Annotated[int, typer.Option(min=2, help="Tokens of it to use.")] = 16384,
    context: Annotated[int, typer.Option(min=2, help="Tokens per calibration window.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the whitening.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Quantise every linear layer of a model's blocks into a checkpoint directory.

    A run that was stopped is resumed by the same command. Embeddings, norms and the head are
    carried over as they are.
    """
    from algo.calibrated import Calibration
    from algo.errors import LiftError
    from algo.matrix import AXES
    from algo.quantise import Recipe, check_folder, quantise_model
    from algo.shipped import best_code, find_code
    from algo.source import open_source
    from liftquant.inspect_command import checkpoint_summary, summary_table
    from liftquant.libraries import quiet_transformers
    from liftquant.texts import calibration_windows

    chosen = find_code(code) if code else best_code(bits)
    matching = [a for a in AXES if a == axis]
    if not matching:
        raise LiftError(f"--axis {axis} is none of {', '.join(AXES)}")
    check_folder(folder)
    quiet_transformers()
    with progress(f"reading {model}"):
        source = open_source(model)
    err.print(f"{len(source.linears)} linear layers, code {chosen.name}, axis {axis}, seed {seed}")
    calibration = None
    if calib != "none":
        calibration = Calibration(calibration_windows(source, calib, context, calib_tokens))
    recipe = Recipe(chosen, matching[0], seed, calibration)
    with progress("quantising") as meter:
        checkpoint = quantise_model(source, recipe, folder, meter.start, meter.advance)
    summary = checkpoint_summary(checkpoint)
    if json:
        print_json(asdict(summary))
    else:
        out.print(summary_table(summary))
