"""``liftquant quantize``."""

from dataclasses import asdict, replace
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
        float | None, typer.Option(help="Average bits per weight, 1.5 to 4; 2.4 by default.")
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(help="Instead of --bits: the memory to fit, say 24GiB (`liftquant plan`)."),
    ] = None,
    context: Annotated[int, typer.Option(min=1, help="With --fit: tokens of context.")] = 8192,
    code: Annotated[
        str | None,
        typer.Option(help="Instead of --bits: one code for all, by name or file (.json)."),
    ] = None,
    window: Annotated[
        int, typer.Option(help="Window of the codes: 8, 12 or 16 bits. Longer: better, slower.")
    ] = 12,
    parities: Annotated[
        bool,
        typer.Option(help="Allow codes with parities: better, but not for the fast GPU path."),
    ] = True,
    uniform: Annotated[
        bool, typer.Option("--uniform", help="One rate for all layers, not by their sensitivity.")
    ] = False,
    axis: Annotated[
        str, typer.Option(help="Direction of the streams: out (columns) or in (rows).")
    ] = "out",
    calib: Annotated[
        str,
        typer.Option(
            help="Text to calibrate with: builtin, wikitext2, c4, a UTF-8 file, or none for plain "
            "rounding."
        ),
    ] = "builtin",
    calib_tokens: Annotated[int, typer.Option(min=2, help="Tokens of it to use.")] = 16384,
    calib_context: Annotated[int, typer.Option(min=2, help="Tokens per window of it.")] = 512,
    learn_whitening: Annotated[
        bool, typer.Option("--learn-whitening", help="Learn every layer's rotation (slow).")
    ] = False,
    correct: Annotated[
        bool, typer.Option("--correct", help="Train each block's scales afterwards.")
    ] = False,
    signs: Annotated[
        bool, typer.Option("--signs", help="With --correct: train the signs too.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the whitening.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Quantise every linear layer of a model's blocks into a checkpoint directory.

    A run that was stopped is resumed by the same command. Embeddings, norms and the head are
    carried over as they are.
    """
    from algo.calibrated import Calibration
    from algo.correct import Correction
    from algo.errors import LiftError
    from algo.matrix import AXES
    from algo.quantise import Recipe, quantise_model
    from algo.resuming import check_folder
    from algo.shipped import find_code
    from algo.source import open_source
    from liftquant.inspect_command import checkpoint_summary, summary_table
    from liftquant.libraries import quiet_transformers
    from liftquant.recipes import Wish, check_rate, fitting_bits, make_recipe
    from liftquant.texts import calibration_windows

    if sum(choice is not None for choice in (bits, fit, code)) > 1:
        raise LiftError("--bits, --fit and --code exclude each other; give one")
    matching = [a for a in AXES if a == axis]
    if not matching:
        raise LiftError(f"--axis {axis} is none of {', '.join(AXES)}")
    _check_training(calib, correct, learn_whitening, signs)
    wish = Wish(bits or 2.4, window, parities, matching[0], seed, not uniform and calib != "none")
    if not fit and not code:
        check_rate(wish)
    check_folder(folder)
    chosen = find_code(code) if code else None
    quiet_transformers()
    with progress(f"reading {model}"):
        source = open_source(model)
    calibration = None
    if calib != "none":
        windows = calibration_windows(source, calib, calib_context, calib_tokens)
        calibration = Calibration(
            windows, learned=learn_whitening,
            correction=Correction(signs=signs) if correct else None,
        )  # fmt: skip
    if chosen is not None:
        recipe = Recipe(chosen, matching[0], seed, calibration)
    else:
        if fit:
            wish = replace(wish, bits=fitting_bits(source, fit, context))
            err.print(f"{wish.bits:g} bits per weight fit {fit} with a context of {context}")
        with progress("choosing codes", 1) as meter:
            recipe = make_recipe(source, wish, calibration, meter.advance, folder)
    names = sorted({recipe.code_of(layer).name for layer in source.linears})
    err.print(f"{len(source.linears)} linear layers, axis {axis}, codes {', '.join(names)}")
    with progress("quantising") as meter:
        checkpoint = quantise_model(source, recipe, folder, meter.start, meter.advance)
    summary = checkpoint_summary(checkpoint)
    if json:
        print_json(asdict(summary))
    else:
        out.print(summary_table(summary))


def _check_training(calib: str, correct: bool, learn_whitening: bool, signs: bool) -> None:
    """Raise LiftError where something is to be trained that lacks what it needs."""
    from algo.errors import LiftError

    if (correct or learn_whitening) and calib == "none":
        raise LiftError("--correct and --learn-whitening need a text; drop --calib none")
    if signs and not correct:
        raise LiftError("--signs is part of --correct; give both")
