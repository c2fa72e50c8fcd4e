"""A comparison as a table."""

import io

from rich.console import Console
from rich.table import Table

from algo.evaluate import Perplexity
from liftquant.comparison import Comparison

_WIDTH = 150  # of a table in a file


def comparison_table(comparison: Comparison) -> Table:
    """Entries by bits, the original first."""
    table = Table(
        title=f"{comparison.model} on {comparison.text}", title_justify="left", show_footer=False
    )
    left = ("quantiser", "setting", "stored as")
    headings = (
        "bits", "quantiser", "setting", "perplexity", "KL, nats per token", "same top token",
        "seconds", "stored as",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right")
    if comparison.entries:
        original = comparison.entries[0].divergence.reference
        table.add_row("", "original", "", _with_error(original), "0", "100.00%", "", "")
    for entry in comparison.entries:
        d = entry.divergence
        table.add_row(
            f"{entry.bits:.3f}", entry.peer, entry.label,
            _with_error(d.model),
            f"{d.kl:.4f} ± {d.standard_error:.4f}", f"{d.top1:.2%} ± {d.top1_error:.2%}",
            f"{entry.seconds:.0f}", entry.note,
        )  # fmt: skip
    return table


def _with_error(perplexity: Perplexity) -> str:
    value, error = perplexity.value, perplexity.standard_error
    return f"{value:.3f} ± {error:.3f}" if value < 10_000 else f"{value:.2e} ± {error:.0e}"


def plain_text(table: Table) -> str:
    """The table for a file: no colours, a fixed width."""
    stream = io.StringIO()
    Console(file=stream, width=_WIDTH, color_system=None).print(table)
    return stream.getvalue()
