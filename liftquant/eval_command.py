"""``liftquant eval``: perplexity, divergence from the original, zero-shot tasks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from liftquant.console import out, print_json, progress

if TYPE_CHECKING:
    from algo.evaluate import Divergence, Perplexity


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Checkpoints or original models (directory, hub id, .gguf); one or more."
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            help="The original, which the others are measured against (KL divergence, top-1); "
            "when several models are named, the first by default."
        ),
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="A UTF-8 text file; Python's own help topics by default.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Instead of --text: wikitext2 or c4 (needs `datasets` and the network)."),
    ] = None,
    context: Annotated[int, typer.Option(min=2, help="Tokens per window.")] = 512,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Slide windows by so many tokens: each token is predicted from at least "
            "context - stride before it. Windows do not overlap by default.",
        ),
    ] = None,
    tokens: Annotated[
        int, typer.Option(min=2, help="Read at most so many tokens of the text.")
    ] = 8192,
    batch: Annotated[int, typer.Option(min=1, help="Windows per forward pass.")] = 4,
    dtype: Annotated[
        str, typer.Option(help="Compute in float32, or in bfloat16 (faster, rounded).")
    ] = "float32",
    integers: Annotated[
        str | None,
        typer.Option(help="Run quantised layers in integers: a8 or a15 (slow, exact)."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Zero-shot tasks of lm-eval by name or YAML file, separated by commas, such as "
            "arc_easy,piqa (needs `lm-eval`, and the network for their data)."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure perplexity on a text, the same windows for every model named.

    With an original to compare to (--against, or the first of several models) also the KL
    divergence from it and how often both rank the same token first.
    """
    import torch

    from algo.activations import Digits
    from algo.errors import LiftError
    from algo.evaluate import compare_logits, perplexity, token_windows
    from algo.model import load_any
    from liftquant.corpora import evaluation_corpus
    from liftquant.libraries import quiet_transformers
    from liftquant.zero_shot import require_lm_eval, zero_shot

    widths: dict[str | None, Digits | None] = {None: None, "a8": 1, "a15": 2}
    if integers not in widths:
        raise LiftError(f"--integers {integers} is neither a8 nor a15")
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in dtypes:
        raise LiftError(f"--dtype {dtype} is neither float32 nor bfloat16")
    if tasks is not None:
        require_lm_eval()
    quiet_transformers()
    with progress("reading the text"):
        corpus = evaluation_corpus(text, dataset)
    named = models if against is None else [against, *(m for m in models if m != against)]
    rows: list[_Row] = []
    reference = reference_windows = None
    for name in named:
        with progress(f"loading {name}"):
            model, tokenizer = load_any(name, widths[integers])
            model = model.to(dtypes[dtype])
        windows = token_windows(corpus.text, tokenizer, context, tokens, stride)
        row = _Row(name)
        with progress(f"evaluating {name}", len(windows)) as meter:
            if reference is None or reference_windows is None:
                row.perplexity = perplexity(model, windows, batch, meter.advance, stride)
            elif not torch.equal(windows, reference_windows):
                raise LiftError(
                    f"{name} cuts the text into other tokens than {named[0]}; only models of one "
                    "tokenizer can be compared (evaluate them one at a time)"
                )
            else:
                row.divergence = compare_logits(
                    reference, model, windows, batch, meter.advance, stride
                )
                row.perplexity = row.divergence.model
        if tasks is not None:
            with progress(f"tasks for {name}"):
                row.tasks = zero_shot(model, tokenizer, tasks.split(","), batch)
        if reference is None and len(named) > 1:
            reference, reference_windows = model, windows
        rows.append(row)
    if json:
        print_json([row.as_json(corpus.name, stride, rows[0]) for row in rows])
        return
    out.print(_table(rows, context, stride))
    if tasks is not None:
        out.print(_task_table(rows))


class _Row:
    """One model's results."""

    perplexity: "Perplexity"
    divergence: "Divergence | None" = None
    tasks: dict[str, dict[str, float]] | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    def as_json(self, text: str, stride: int | None, first: "_Row") -> dict[str, Any]:
        p, d = self.perplexity, self.divergence
        known = p.windows > 1  # one window has no spread, and JSON no NaN
        fields: dict[str, Any] = {
            "model": self.name,
            "text": text,
            "perplexity": p.value,
            "standard_error": p.standard_error if known else None,
            "predicted": p.predicted,
            "windows": p.windows,
            "context": p.context,
            "stride": p.context if stride is None else stride,
            "ratio": p.value / first.perplexity.value,
        }
        if d is not None:
            fields["against"] = first.name
            fields["kl"] = d.kl
            fields["kl_standard_error"] = d.standard_error if known else None
            fields["top1"] = d.top1
            fields["top1_standard_error"] = d.top1_error if known else None
        if self.tasks is not None:
            fields["tasks"] = self.tasks
        return fields


def _table(rows: list[_Row], context: int, stride: int | None) -> Table:
    sliding = "" if stride is None else f", sliding by {stride}"
    table = Table(title=f"perplexity, windows of {context} tokens{sliding}", title_justify="left")
    headings = ["model", "perplexity", "standard error", "tokens", "times the first"]
    if len(rows) > 1:
        headings += ["KL, nats per token", "same top token"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in rows:
        p, d = row.perplexity, row.divergence
        cells = [
            row.name, f"{p.value:.3f}", f"{p.standard_error:.3f}", f"{p.predicted:,}",
            f"{p.value / rows[0].perplexity.value:.3f}",
        ]  # fmt: skip
        if d is not None:
            cells += [f"{d.kl:.4f} ± {d.standard_error:.4f}", f"{d.top1:.2%}"]
        table.add_row(*cells)
    return table


def _task_table(rows: list[_Row]) -> Table:
    table = Table(title="zero-shot tasks", title_justify="left")
    table.add_column("model")
    table.add_column("task")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for row in rows:
        for task, metrics in (row.tasks or {}).items():
            for metric, value in metrics.items():
                table.add_row(row.name, task, metric, f"{value:.4f}")
    return table
