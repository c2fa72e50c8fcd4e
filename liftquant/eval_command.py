"""``liftquant eval``: perplexity."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from liftquant.console import out, print_json, progress


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Checkpoints or original models (directory, hub id, .gguf); one or more."
        ),
    ],
    text: Annotated[
        Path | None, typer.Option(help="A UTF-8 text file; Python's own help topics by default.")
    ] = None,
    context: Annotated[int, typer.Option(min=2, help="Tokens per window.")] = 512,
    tokens: Annotated[
        int, typer.Option(min=2, help="Read at most so many tokens of the text.")
    ] = 8192,
    batch: Annotated[int, typer.Option(min=1, help="Windows per forward pass.")] = 4,
    integers: Annotated[
        str | None,
        typer.Option(help="Run quantised layers in integers: a8 or a15 (slow, exact)."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure perplexity on a text, the same windows for every model named.

    Give the original first to see what quantising cost.
    """
    from algo.activations import Digits
    from algo.errors import LiftError
    from algo.evaluate import perplexity, token_windows
    from algo.model import load_any
    from algo.text import evaluation_text
    from liftquant.libraries import quiet_transformers

    widths: dict[str | None, Digits | None] = {None: None, "a8": 1, "a15": 2}
    if integers not in widths:
        raise LiftError(f"--integers {integers} is neither a8 nor a15")
    quiet_transformers()
    try:
        content = evaluation_text() if text is None else text.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LiftError(f"--text {text} cannot be read as UTF-8 text: {error}") from None
    results = []
    for name in models:
        with progress(f"loading {name}"):
            model, tokenizer = load_any(name, widths[integers])
        windows = token_windows(content, tokenizer, context, tokens)
        with progress(f"evaluating {name}", len(windows)) as meter:
            results.append((name, perplexity(model, windows, batch, meter.advance)))
    if json:
        print_json(
            [
                {
                    "model": name,
                    "text": "python help topics" if text is None else str(text),
                    "perplexity": result.value,
                    **{k: v for k, v in asdict(result).items() if k != "value"},
                    "standard_error": result.standard_error if result.windows > 1 else None,
                    "ratio": result.value / results[0][1].value,
                }
                for name, result in results
            ]
        )
        return
    table = Table(title=f"perplexity, windows of {context} tokens", title_justify="left")
    for heading in ("model", "perplexity", "standard error", "tokens", "times the first"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name, result in results:
        table.add_row(
            name, f"{result.value:.3f}", f"{result.standard_error:.3f}", f"{result.predicted:,}",
            f"{result.value / results[0][1].value:.3f}",
        )  # fmt: skip
    out.print(table)
