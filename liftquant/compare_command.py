"""``liftquant compare``: our checkpoints beside those of other quantisers, on one text."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from liftquant.console import err, out, print_json, progress

if TYPE_CHECKING:
    from liftquant.comparing import Task


def compare(
    model: Annotated[
        str, typer.Argument(help="The original: a directory, a hub id or a .gguf file.")
    ],
    bits: Annotated[
        str, typer.Option(help="Sizes in bits per weight, separated by commas.")
    ] = "2,2.4,3,4",
    against: Annotated[
        str, typer.Option(help="Peers, separated by commas: rtn, hqq, gptq, autoround, gguf.")
    ] = "hqq,gptq,gguf",
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for results; a repeated command goes on there.")
    ] = Path("comparison"),
    text: Annotated[
        Path | None, typer.Option(help="Evaluate on this file; Python's help topics by default.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Instead of --text: wikitext2 or c4 (needs `datasets` and the network)."),
    ] = None,
    calibration: Annotated[
        str,
        typer.Option(
            help="Calibrate on this: a UTF-8 file, wikitext2, c4, or builtin: help topics other "
            "than those evaluated on."
        ),
    ] = "builtin",
    context: Annotated[int, typer.Option(min=2, help="Tokens per window.")] = 512,
    tokens: Annotated[
        int, typer.Option(min=2, help="Evaluate on at most so many tokens of the text.")
    ] = 8192,
    calibration_tokens: Annotated[
        int, typer.Option(min=2, help="Calibrate on at most so many tokens.")
    ] = 32768,
    batch: Annotated[int, typer.Option(min=1, help="Windows per forward pass.")] = 4,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Quantise a model with liftquant and with its peers, and evaluate all on the same text.

    Every quantiser gets the same tensors (linear layers of the blocks) and the same calibration
    tokens, and its true size is counted, scales and zeros included. Of each peer the settings
    nearest to every size are run. A peer that cannot run is listed with the reason.
    Writes results.json, table.txt and plot.png, plot.svg.
    """
    from algo.errors import LiftError
    from algo.files import write_json, write_text
    from liftquant.comparing import PEERS, Run
    from liftquant.comparison import comparison_json
    from liftquant.comparison_plot import plot
    from liftquant.comparison_table import comparison_table, plain_text
    from liftquant.libraries import quiet_transformers

    try:
        sizes = sorted({float(size) for size in bits.split(",")})
    except ValueError:
        raise LiftError(f"--bits {bits}: numbers separated by commas are expected") from None
    peers = list(dict.fromkeys(name.strip() for name in against.split(",") if name.strip()))
    for name in peers:
        if name not in PEERS:
            raise LiftError(f"--against {name} is none of {', '.join(PEERS)}")
    quiet_transformers()
    with progress(f"reading {model}"):
        task = _task(model, text, dataset, calibration, context, tokens, calibration_tokens, batch)
        run = Run(task, folder)
        run.plan(sizes, peers)
    pending = len(run.pending)
    err.print(f"{len(run.plans)} entries, {len(run.plans) - pending} of them done before")
    if pending:
        with progress("comparing", pending) as meter:
            run.carry_out(meter.advance)
    result = run.result()
    table = comparison_table(result)
    write_json(folder / "results.json", comparison_json(result))
    write_text(folder / "table.txt", plain_text(table))
    if result.entries:
        plot(result, folder)
    if json:
        print_json(comparison_json(result))
    else:
        out.print(table)
    for missing in result.missing:
        name = missing.peer if missing.label is None else f"{missing.peer} {missing.label}"
        err.print(f"not run: {name}: {missing.reason}", soft_wrap=True)
    err.print(f"results in {folder}")


def _task(
    model: str,
    text: Path | None,
    dataset: str | None,
    calibration: str,
    context: int,
    tokens: int,
    calibration_tokens: int,
    batch: int,
) -> "Task":
    """The windows to evaluate on and those to calibrate with."""
    from algo.evaluate import token_windows
    from algo.model import source_tokenizer
    from algo.source import open_source
    from liftquant.comparing import Task
    from liftquant.corpora import calibration_corpus, evaluation_corpus

    corpus = evaluation_corpus(text, dataset)
    other = calibration_corpus("--calibration", calibration)
    source = open_source(model)
    tokenizer = source_tokenizer(source)
    return Task(
        source=source,
        text=corpus.name,
        windows=token_windows(corpus.text, tokenizer, context, tokens),
        calibration_text=other.name,
        calibration=token_windows(other.text, tokenizer, context, calibration_tokens),
        batch=batch,
    )
