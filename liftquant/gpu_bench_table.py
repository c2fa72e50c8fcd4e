"""A benchmark of layers as tables: one for every layer, narrow enough for 80 columns."""

from rich import box
from rich.table import Table

from gpu.tuning_table import Timed
from liftquant.gpu_bench import Check, Result, Row

_HEADINGS = ("batch", "method", "bits", "µs", "p20", "p80", "GB/s", "bound", "×fp16", "error")
_LEFT = ("method",)


def time_tables(result: Result) -> list[Table]:
    """Times of every layer that has any."""
    tables = []
    for name, layer in result.layers.items():
        rows = [row for row in result.rows if row.layer == name]
        if not rows:
            continue
        table = Table(
            title=f"{name}: {layer['rows']}x{layer['columns']}, axis {layer['axis']}, "
            f"{layer['digits']} digit(s)",
            title_justify="left",
            caption=_choices(rows),
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            padding=0,
        )
        for heading in _HEADINGS:
            left = heading in _LEFT
            table.add_column(heading, justify="left" if left else "right", no_wrap=True)
        batches = sorted({row.batch for row in rows})
        for batch in batches:
            same = [row for row in rows if row.batch == batch]
            for index, row in enumerate(same):
                table.add_row(str(batch) if not index else "", *_cells(row))
            for shared in result.preparations:
                if (shared.layer, shared.batch) == (name, batch):
                    table.add_row("", "(preparing x)", "", *_times(shared.microseconds))
            if batch != batches[-1]:
                table.add_section()
        tables.append(table)
    return tables


def _choices(rows: list[Row]) -> str:
    """What ours ran, by batch."""
    ran = [f"{row.batch}: {row.path}" for row in rows if row.path is not None]
    return "ours by batch: " + ", ".join(ran) if ran else ""


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.method,
        f"{row.bits_per_weight:.2f}",
        *_times(row.microseconds),
        f"{row.gigabytes_per_second:,.0f}",
        f"{row.bound_share:.0%}",
        f"{row.times_dense:.2f}",
        f"{row.error:.1e}",
    )


def _times(t: Timed) -> tuple[str, ...]:
    values = (t.median, t.p20, t.p80)
    return tuple(f"{x:,.0f}" if t.median >= 1000 else f"{x:.1f}" for x in values)


def check_table(checks: list[Check]) -> Table:
    """How many choices of every layer were found exact."""
    table = Table(
        title="against the reference, and on the identity", title_justify="left",
        box=box.SIMPLE_HEAD, padding=0,
    )  # fmt: skip
    for heading in ("layer", "runs", "equal", "wrong", "not run"):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    for layer in dict.fromkeys(check.layer for check in checks):
        own = [check for check in checks if check.layer == layer]
        wrong = sum(check.wrong for check in own)
        equal = sum(check.problem is None for check in own)
        counts = (len(own), equal, wrong, len(own) - equal - wrong)
        table.add_row(layer, *(f"{count:,}" for count in counts))
    return table
