"""What `liftquant bench generate` measured, as a table."""

from rich.table import Table

from algo.sizes import format_size
from liftquant.generation_bench import Result, Spread


def bench_table(result: Result) -> Table:
    """A row for every model; ratios are to the first."""
    told = result.settings
    table = Table(
        title=f"{told.new_tokens} tokens after a prompt of {told.prompt_tokens}, medians of "
        f"{told.rounds} rounds (20th to 80th percentile)",
        title_justify="left",
    )
    table.add_column("model")
    for heading in (
        "tokens/s", "times", "seconds to the first", "times", "weights", "peak memory", "start-up",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    first = result.models[0]
    for name, row in zip(result.labels(), result.models, strict=True):
        table.add_row(
            name if row.integers is None else f"{name}, {row.integers}",
            _spread(row.decode, 1),
            f"{row.decode.median / first.decode.median:.2f}",
            _spread(row.prefill, 3),
            f"{row.prefill.median / first.prefill.median:.2f}",
            format_size(row.weights_bytes),
            format_size(row.peak_bytes),
            f"{row.start_up_seconds:.1f} s",
        )
    return table


def _spread(value: Spread, digits: int) -> str:
    return f"{value.median:.{digits}f} ({value.p20:.{digits}f}-{value.p80:.{digits}f})"


def beginnings(result: Result) -> str:
    """What a process takes before it loads its model."""
    amounts = sorted(row.before_loading_bytes for row in result.models)
    return (
        f"Before it loads a model, a process takes {format_size(amounts[len(amounts) // 2])} "
        "(Python, torch, transformers); start-up is loading and a first, short run."
    )
