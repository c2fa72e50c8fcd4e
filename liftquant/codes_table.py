"""The shipped codes as rows: for the terminal, for documents (Markdown) and for programs (JSON)."""

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from algo.shipped import ShippedCode

_HEADINGS = ("name", "bits", "window", "parities", "shifts", "MSE", "± s.e.", "gap, dB", "fit for")
_LEFT = ("name", "shifts", "fit for")
CAPTION = (
    "The gap is to Shannon's bound 2^(-2 bits) for a Gaussian source. 'all': fused product and "
    "decoders; 'decoders': every parity would be one more row of the fused product."
)


def code_row(shipped: "ShippedCode") -> dict[str, Any]:
    """One code's figures as JSON values; `linear` codes suit the fused product too."""
    code = shipped.code
    return {
        "name": code.name,
        "lifted": code.lifted,
        "group": code.group,
        "overlap": code.overlap,
        "rate": code.rate,
        "window": code.window,
        "shifts": list(code.shifts),
        "parities": len(code.parities),
        "linear": shipped.linear,
        "mse": shipped.mse,
        "standard_error": shipped.standard_error,
        "gap_db": shipped.gap,
    }


def _cells(shipped: "ShippedCode") -> tuple[str, ...]:
    code = shipped.code
    return (
        code.name,
        f"{code.rate:g}",
        str(code.window),
        str(len(code.parities) or ""),
        ",".join(map(str, code.shifts)) if code.overlap else "block",
        f"{shipped.mse:.5f}",
        f"{shipped.standard_error:.5f}",
        f"{shipped.gap:.2f}",
        "all" if shipped.linear else "decoders",
    )


def terminal_table(codes: "list[ShippedCode]") -> Table:
    """A table of all columns."""
    table = Table(title="shipped codes", title_justify="left")
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in _LEFT else "right")
    for shipped in codes:
        table.add_row(*_cells(shipped))
    table.caption, table.caption_justify = CAPTION, "left"
    return table


def markdown_table(codes: "list[ShippedCode]") -> str:
    """The same columns as a Markdown table."""
    rules = ["---" if heading in _LEFT else "---:" for heading in _HEADINGS]
    rows = [_HEADINGS, rules, *(_cells(shipped) for shipped in codes)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
