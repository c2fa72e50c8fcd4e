"""``liftquant codes``: the shipped codes, and learning others."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from liftquant.console import err, out, print_json, progress

if TYPE_CHECKING:
    from algo.shipped import ShippedCode

codes = typer.Typer(help="List, show and learn codes.", no_args_is_help=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _row(shipped: "ShippedCode") -> dict[str, Any]:
    code = shipped.code
    return {
        "name": code.name,
        "lifted": code.lifted,
        "group": code.group,
        "overlap": code.overlap,
        "rate": code.rate,
        "window": code.window,
        "shifts": list(code.shifts),
        "mse": shipped.mse,
    }


@codes.command("list")
def list_codes(json: JsonFlag = False) -> None:
    """List the shipped codes with their measured MSE on N(0, 1) (integer taps)."""
    from algo.shipped import shipped_codes

    shipped = shipped_codes().values()
    if json:
        print_json([_row(s) for s in shipped])
        return
    table = Table(title="shipped codes", title_justify="left")
    for heading in ("name", "bits", "window", "shifts", "MSE", "± s.e.", "dB over bound"):
        table.add_column(heading, justify="left" if heading in ("name", "shifts") else "right")
    for s in shipped:
        code = s.code
        gap = 10 * math.log10(s.mse * 4**code.rate)
        table.add_row(
            code.name, f"{code.rate:g}", str(code.window),
            ",".join(map(str, code.shifts)) if code.overlap else "block",
            f"{s.mse:.5f}", f"{s.record['mse']['standard_error']:.5f}", f"{gap:.2f}",
        )  # fmt: skip
    table.caption = "The bound is 2^(-2 bits), Shannon's for a Gaussian source."
    table.caption_justify = "left"
    out.print(table)


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
                **_row(shipped),
                "taps": code.taps.tolist(),
                "exponent": code.exponent,
                "parities": list(code.parities),
                "sha256": code.sha256,
                "learned": shipped.record["learned"],
            }
        )
        return
    out.print(f"{code.name}: {code.lifted} bits for {code.group} weights, window {code.window}")
    out.print(f"weight = scale * 2^-{code.exponent} * sum of taps * signs")
    out.print(f"sha256 {code.sha256}", soft_wrap=True)
    mse = shipped.record["mse"]
    out.print(f"MSE {mse['value']:.5f} ± {mse['standard_error']:.5f} on {mse['weights']:,} samples")
    out.print(f"learned by: {shipped.record['learned']['command']}", soft_wrap=True)
    table = Table(title="taps over each weight's window", title_justify="left")
    table.add_column("weight", justify="right")
    table.add_column("first bit", justify="right")
    table.add_column("taps")
    for i, start in enumerate(code.starts):
        table.add_row(str(i), str(start), " ".join(map(str, code.window_taps[i].tolist())))
    out.print(table)


def _parities(text: str) -> tuple[int, tuple[int, ...]]:
    """How many masks to draw, and the masks given, of the option's text."""
    from algo.errors import LiftError

    try:
        if "x" not in text:
            return int(text), ()
        return 0, tuple(int(mask, 16) for mask in text.split(","))
    except ValueError:
        raise LiftError(
            f"--parities {text}: give a number, or hexadecimal masks with commas: 0x3,0x15"
        ) from None


@codes.command("learn")
def learn_code(
    output: Annotated[Path, typer.Argument(help="The code file to write (.json).")],
    lifted: Annotated[int, typer.Option(min=1, help="D, bits per group.")],
    group: Annotated[int, typer.Option(min=1, help="d, weights per group.")],
    window: Annotated[
        int | None, typer.Option(min=1, help="Bits a weight is decoded from; none: block code.")
    ] = None,
    parities: Annotated[
        str, typer.Option(help="How many parities to draw, or their masks: 0x3,0x15.")
    ] = "0",
    taps_bits: Annotated[int, typer.Option(min=4, max=8, help="Width of a tap.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    starts: Annotated[int, typer.Option(min=1, help="Random candidates.")] = 24,
    bred: Annotated[int, typer.Option(min=0, help="Candidates bred from the best.")] = 40,
    weights: Annotated[int, typer.Option(min=64, help="Samples per training step.")] = 8192,
    measured: Annotated[
        int, typer.Option(min=1000, help="Fresh samples to measure the MSE on.")
    ] = 2_000_000,
) -> None:
    """Learn a code on N(0, 1), measure it, and write it with its record.

    The pool of candidates is kept beside OUTPUT until the code is written; the same command after
    an interruption goes on from there.
    """
    from algo.code import write_definition
    from algo.errors import LiftError
    from algo.learn import Geometry, Schedule, learn, measure

    drawn, masks = _parities(parities)
    geometry = Geometry(lifted, group, window, masks, drawn, taps_bits)
    geometry.check()
    if output.exists() or output.suffix != ".json":
        raise LiftError(f"{output}: give the name of a new file that ends in .json")
    if min(weights, measured) < group:
        raise LiftError(f"--weights and --measured must be at least one group of {group}")
    state = output.with_name(f".{output.name}.state")
    command = f"liftquant codes learn --lifted {lifted} --group {group}" + (
        f" --window {window}" if window else ""
    )
    command += f" --parities {parities}" if parities != "0" else ""
    command += f" --taps-bits {taps_bits}" if taps_bits != 8 else ""
    command += f" --seed {seed} --starts {starts} --bred {bred} --weights {weights} {output.name}"
    with progress("learning", 1.0) as meter:
        code = learn(
            geometry,
            Schedule(seed, starts, bred, weights),
            state,
            lambda fraction, note: meter.advance(fraction - meter.done, note),
        )
    with progress("measuring"):
        value, error = measure(code, measured, seed)
    record = {
        "mse": {"value": value, "standard_error": error, "weights": measured, "seed": seed},
        "learned": {"command": command, "source": "N(0, 1)"},
    }
    write_definition(code, output, record)
    state.unlink(missing_ok=True)
    err.print(
        f"{output}: {code.name}, MSE {value:.5f} ± {error:.5f}, sha256 {code.sha256}",
        soft_wrap=True,
    )
