"""Predicted speeds on record: ``python -m benchmarks.estimates``.

Writes the tables of predicted speeds in ``docs/kernels.md`` and the picture beside it, from the
compile report and the published figures. Run it after ``python -m benchmarks.kernels``.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from algo.errors import LiftError
from algo.files import write_text
from gpu.decoding_work import Decoding
from gpu.llama_models import MODELS, llama_shapes
from gpu.product_costs import REPORT, read_product_costs
from gpu.speed_checks import gpu_named
from gpu.time_model import CAUSES
from liftquant.estimate_plot import draw
from liftquant.estimating import Question, answer

DOCS = Path(__file__).parent.parent / "docs"
PAGE, PICTURE = DOCS / "kernels.md", DOCS / "kernels-speed.svg"
START, END = "<!-- speed: start -->\n", "<!-- speed: end -->\n"
_MODELS, _GPUS, _BITS = ("llama-3-8b", "llama-3-70b"), ("rtx-4090", "a100", "h100"), (2.0, 2.4, 3.0)


def question() -> Question:
    """What the page shows: the command's defaults."""
    return Question(
        models={name: llama_shapes(MODELS[name]) for name in _MODELS},
        gpus={name: gpu_named(name) for name in _GPUS},
        bits=_BITS,
        how=Decoding(),
        graphs=True,
        embedding="gpu",
        costs=read_product_costs(REPORT, fused=True),
    )


def _table(left: int, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rules = ["---"] * left + ["---:"] * (len(headings) - left)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [headings, rules, *rows])


def _span(speed: dict[str, float]) -> str:
    return f"{speed['pessimistic']:.0f} to {speed['optimistic']:.0f}"


def predicted_table(result: dict[str, Any]) -> str:
    """Our estimates."""
    spent = [row["expected_milliseconds_by_cause"] for row in result["estimates"]]
    causes = [cause for cause in (*CAUSES, "fixed") if any(ms[cause] for ms in spent)]
    headings = (
        "model", "GPU", "code", "bits", "tokens/s, ESTIMATE", "range", "words only", "ms",
        *causes, "launches", "takes, GiB", "fits",
    )  # fmt: skip
    rows = []
    for row, ms in zip(result["estimates"], spent, strict=True):
        rows.append([
            row["model"], result["gpus"][row["gpu"]]["name"], row["code"], f"{row['bits']:g}",
            f"**{row['tokens_per_second']['expected']:.0f}**", _span(row["tokens_per_second"]),
            f"{row['weights_only_tokens_per_second']:.0f}",
            f"{row['milliseconds']['expected']:.2f}",
            *(f"{ms[cause]:.2f}" if ms[cause] else "" for cause in causes),
            f"{row['launches']:,}", f"{row['memory_bytes'] / 2**30:.1f}",
            "yes" if row["fits"] else "**no**",
        ])  # fmt: skip
    return _table(3, headings, rows)


def published_table(result: dict[str, Any]) -> str:
    """Published figures of up to 4 bits on these cards, with our estimate of the same case."""
    headings = (
        "format", "model", "GPU", "bits", "context", "published, tokens/s", "ours, ESTIMATE",
        "range", "source",
    )  # fmt: skip
    rows = []
    for figure in result["published"]:
        if figure["bits"] > 4:
            continue
        ours = figure["ours_in_its_case"]
        rows.append([
            figure["method"], figure["stated_model"], figure["stated_gpu"], f"{figure['bits']:g}",
            str(figure["context"] or ""), f"{figure['tokens_per_second']:.4g}",
            *([f"{ours['expected']:.0f}", _span(ours)] if ours else ["", ""]),
            f"[{figure['where'].partition(',')[0]}]({figure['url']})",
        ])  # fmt: skip
    return _table(3, headings, rows)


def check_table(result: dict[str, Any]) -> str:
    """Predicted over published, by card and format."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for check in result["checks"]:
        if not check["set_from_it"]:
            groups.setdefault((check["gpu_name"], check["method"]), []).append(check)
    rows = []
    for (gpu, method), found in sorted(groups.items()):
        ratios = sorted(check["ratio"] for check in found)
        bits = sorted({check["bits"] for check in found})
        span = f"{ratios[0]:.2f}" + (f" to {ratios[-1]:.2f}" if len(ratios) > 1 else "")
        rows.append([gpu, method, ", ".join(f"{b:g}" for b in bits), str(len(found)), span])
    return _table(2, ("GPU", "format", "bits", "figures", "predicted / published"), rows)


def page_with(result: dict[str, Any], page: str) -> str:
    """`page` with the tables between its marks made anew.

    Raises:
        LiftError: it lacks the marks.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise LiftError(f"{PAGE} lacks the lines {START.strip()!r} and {END.strip()!r}")
    tables = [
        "Predicted, batch 1, context 1024, streams along the outputs, two digits (a15), head in 16 "
        "bits:\n\n" + predicted_table(result),
        "Published, and our estimate for the same model, card, bits, head and context:\n\n"
        + published_table(result),
        "The model held against what was published, counting bytes and launches of each format "
        "alone:\n\n" + check_table(result),
    ]
    return f"{before}{start}\n" + "\n".join(tables) + f"\n{end}{after}"


def main() -> None:
    """Write tables and picture."""
    asked = question()
    write_text(PAGE, page_with(answer(asked), PAGE.read_text(encoding="utf-8")))
    draw(asked, PICTURE)


if __name__ == "__main__":
    main()
