"""Predicted speeds as tables for a terminal; every title says that they are estimates."""

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from algo.sizes import format_size
from gpu.time_model import CAUSES

Result = dict[str, Any]
_CAUSES = (*CAUSES, "fixed", "host")


def _titled(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in left:
        table.add_column(heading, no_wrap=True)
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def speed_tables(result: Result) -> Iterator[Table]:
    """One table for each model: a row per GPU and rate, and published figures below them."""
    how = result["decoding"]
    spent = [row["expected_milliseconds_by_cause"] for row in result["estimates"]]
    seen = [cause for cause in _CAUSES if any(causes[cause] for causes in spent)]
    for model in dict.fromkeys(row["model"] for row in result["estimates"]):
        table = _titled(
            f"{model}, ESTIMATE for linear codes, nothing was run on a GPU: tokens per second at "
            f"batch {how['batch']}, context {how['context']}",
            ("GPU",),
            ("bits", "tokens/s", "from-to", "words only", "ms", *seen, "launches", "takes",
             "fits"),
        )  # fmt: skip
        rows = [row for row in result["estimates"] if row["model"] == model]
        for n, row in enumerate(rows):
            speed, causes = row["tokens_per_second"], row["expected_milliseconds_by_cause"]
            table.add_row(
                row["gpu"], f"{row['bits']:g}",
                f"{speed['expected']:.0f}",
                _span(speed),
                f"{row['weights_only_tokens_per_second']:.0f}",
                f"{row['milliseconds']['expected']:.2f}",
                *(f"{causes[cause]:.2f}" if causes[cause] else "" for cause in seen),
                f"{row['launches']}", format_size(row["memory_bytes"]),
                "yes" if row["fits"] else "NO",
                end_section=rows[n + 1 : n + 2] != [] and rows[n + 1]["gpu"] != row["gpu"],
            )  # fmt: skip
        yield table
    if result["published"]:
        yield _published(result)


def _published(result: Result) -> Table:
    table = _titled(
        "published by others, batch 1; ours: ESTIMATE for the same model, card, bits, head and "
        "context",
        ("format", "model", "GPU"),
        ("bits", "context", "published", "ours", "from-to"),
    )
    for figure in result["published"]:
        ours = figure["ours_in_its_case"]
        table.add_row(
            figure["method"], figure["stated_model"], figure["stated_gpu"], f"{figure['bits']:g}",
            str(figure["context"] or ""), f"{figure['tokens_per_second']:.4g}",
            *([f"{ours['expected']:.0f}", _span(ours)] if ours else ["", ""]),
        )  # fmt: skip
    return table


def _span(speed: dict[str, float]) -> str:
    return f"{speed['pessimistic']:.0f}-{speed['optimistic']:.0f}"


def check_table(result: Result) -> Table:
    """What the model predicts for each published figure."""
    table = _titled(
        "the model held against published figures: bytes and launches of each format alone",
        ("format", "model", "GPU"),
        ("bits", "published", "predicted", "predicted/published"),
    )
    for check in result["checks"]:
        ratio = "set from it" if check["set_from_it"] else f"{check['ratio']:.2f}"
        table.add_row(
            check["method"], check["model"], check["gpu"], f"{check['bits']:g}",
            f"{check['published']:.4g}", f"{check['predicted']:.4g}", ratio,
        )  # fmt: skip
    return table


def notes(result: Result) -> list[str]:
    """What belongs under the tables."""
    shares = result["assumptions"]
    product = ", ".join(
        f"{target} {cost['lanes_per_bit']:.3g} lane-instructions per bit in tiles of "
        f"{cost['rows']} x {cost['columns']}"
        for target, cost in result["product"].items()
    )
    said = "; ".join(
        f"{name}: {100 * a['memory_share']:.0f} % of the bandwidth, "
        f"{100 * a['issue_share']:.0f} % of the issue slots, {100 * a['tensor_share']:.0f} % of "
        f"the tensor rate, {a['cache_bytes_per_clock']:.0f} bytes of L2 cache per clock, "
        f"{a['fixed_clocks']:,.0f} clocks per launch"
        for name, a in shares.items()
    )
    sought: dict[str, list[str]] = {}
    for missing in result["not_found"]:
        sought.setdefault(missing["method"], []).append(missing["gpu"])
    absent = "; ".join(f"{method} ({', '.join(gpus)})" for method, gpus in sought.items())
    graphs = "Launches held by CUDA graphs"
    if not result["graphs"]:
        seconds = result["host_seconds_per_launch_without_graphs"]
        graphs = f"No CUDA graphs: the host takes {1e6 * seconds:g} us for a launch"
    return [
        "from-to: pessimistic to optimistic. words only: packed words and head at the peak "
        "bandwidth, nothing else. ms: expected, by what each kernel waits for; fixed: the clocks "
        "per launch; host: what its launches add.",
        f"Assumed: {said}.",
        f"Clocks per launch are set from one published figure ({result['fixed_clocks_from']}); "
        "--checks holds the model against all others.",
        f"From the compile report: {product}.",
        f"{graphs}; token embedding: {result['embedding']}.",
        f"Looked for and not found, speeds of: {absent}.",
    ]
