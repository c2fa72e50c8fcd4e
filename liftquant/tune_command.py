"""``liftquant tune``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from liftquant.console import out, print_json, progress


def tune(
    folder: Annotated[Path, typer.Argument(help="The checkpoint to tune; it is not changed.")],
    model: Annotated[str, typer.Argument(help="The original model.")],
    tuned: Annotated[Path, typer.Argument(help="The checkpoint directory to write.")],
    calib: Annotated[
        str, typer.Option(help="Text to tune on: builtin, wikitext2, c4, or a UTF-8 file.")
    ] = "builtin",
    calib_tokens: Annotated[int, typer.Option(min=2, help="Tokens of it to use.")] = 32768,
    calib_context: Annotated[int, typer.Option(min=2, help="Tokens per window of it.")] = 512,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the text.")] = 2,
    rate: Annotated[float, typer.Option(min=1e-8, help="First learning rate of Adam.")] = 1e-3,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train the scales of a checkpoint end to end towards the original's predictions.

    Both models are in memory, in float32. A run that was stopped is resumed by the same command.
    """
    from algo.checkpoint import Checkpoint
    from algo.model import load_original
    from algo.resuming import check_folder
    from algo.source import open_source
    from algo.tune import Tuning, tune_checkpoint
    from liftquant.inspect_command import checkpoint_summary, summary_table
    from liftquant.libraries import quiet_transformers
    from liftquant.texts import calibration_windows

    checkpoint = Checkpoint(folder)
    checkpoint.verify()
    check_folder(tuned)
    quiet_transformers()
    with progress(f"reading {model}"):
        windows = calibration_windows(open_source(model), calib, calib_context, calib_tokens)
        original, _ = load_original(model)
    settings = Tuning(epochs=epochs, rate=rate)
    with progress("tuning") as meter:
        made = tune_checkpoint(
            checkpoint, original.float(), windows, tuned, settings, meter.start, meter.advance
        )
    summary = checkpoint_summary(made)
    if json:
        print_json(asdict(summary))
    else:
        out.print(summary_table(summary))
