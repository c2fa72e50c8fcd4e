"""``liftquant codes``: list and show the shipped codes, learn others, compare and draw them."""

from typing import Annotated

import typer
from rich.table import Table

from liftquant.codes_learn import learn_code, show_widths
from liftquant.codes_plot import plot_codes
from liftquant.codes_table import code_row, markdown_table, terminal_table
from liftquant.console import out, print_json

codes = typer.Typer(help="List, show, learn and draw codes.", no_args_is_help=True)
codes.command("learn")(learn_code)
codes.command("widths")(show_widths)
codes.command("plot")(plot_codes)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@codes.command("list")
def list_codes(
    bits: Annotated[float | None, typer.Option(help="Only codes of this rate.")] = None,
    window: Annotated[int | None, typer.Option(help="Only codes of this window.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.")] = False,
    json: JsonFlag = False,
) -> None:
    """List the shipped codes with their measured MSE on N(0, 1) (integer taps)."""
    from algo.shipped import shipped_codes

    shipped = [
        s
        for s in shipped_codes().values()
        if (bits is None or abs(s.code.rate - bits) < 1e-9)
        and (window is None or s.code.window == window)
    ]
    if json:
        print_json([code_row(s) for s in shipped])
    elif markdown:
        print(markdown_table(shipped))
    else:
        out.print(terminal_table(shipped))


@codes.command("show")
def show_code(
    name: Annotated[str, typer.Argument(help="A code's name, say LQ-24/10.")],
    json: JsonFlag = False,
) -> None:
    """Show one code: geometry, taps, hash, and how it was learned."""
    from algo.shipped import load_code, shipped_codes

    code = load_code(name)
    shipped = shipped_codes()[name]
    if json:
        print_json(
            {
                **code_row(shipped),
                "taps": code.taps.tolist(),
                "exponent": code.exponent,
                "parity_masks": list(code.parities),
                "sha256": code.sha256,
                "learned": shipped.record["learned"],
            }
        )
        return
    out.print(f"{code.name}: {code.lifted} bits for {code.group} weights, window {code.window}")
    out.print(f"weight = scale * 2^-{code.exponent} * sum of taps * signs")
    out.print(f"sha256 {code.sha256}", soft_wrap=True)
    if code.parities:
        masks = " ".join(f"{mask:#x}" for mask in code.parities)
        out.print(f"parity masks {masks}; for decoders, not for the fused product", soft_wrap=True)
    weights = shipped.record["mse"]["weights"]
    out.print(
        f"MSE {shipped.mse:.5f} ± {shipped.standard_error:.5f} on {weights:,} samples, "
        f"{shipped.gap:.2f} dB over the bound"
    )
    out.print(f"learned by: {shipped.record['learned']['command']}", soft_wrap=True)
    table = Table(title="taps over each weight's window, then its parities", title_justify="left")
    table.add_column("weight", justify="right")
    table.add_column("first bit", justify="right")
    table.add_column("taps")
    for i, start in enumerate(code.starts):
        table.add_row(str(i), str(start), " ".join(map(str, code.window_taps[i].tolist())))
    out.print(table)
