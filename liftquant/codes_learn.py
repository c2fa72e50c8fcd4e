"""``liftquant codes learn`` and ``widths``: make a code; see what narrower taps cost it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from liftquant.console import err, out, print_json, progress

if TYPE_CHECKING:
    from algo.code import LiftCode


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
    cells: Annotated[
        int | None,
        typer.Option(min=1, help="Parities instead: all triples in so many interleaved cells."),
    ] = None,
    taps_bits: Annotated[int, typer.Option(min=4, max=8, help="Width of a tap.")] = 8,
    begin: Annotated[
        list[str] | None,
        typer.Option(help="A code of this window, any rate, to begin with (name or .json)."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    starts: Annotated[int, typer.Option(min=0, help="Random candidates.")] = 24,
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
    from algo.geometry import Geometry, cell_triples
    from algo.learn import Schedule, learn, measure
    from algo.shipped import find_code

    drawn, masks = _parities(parities)
    if cells is not None:
        if drawn or masks or window is None:
            raise LiftError("--cells chooses the parities itself, in a window: give --window only")
        masks = cell_triples(window, cells)
    geometry = Geometry(lifted, group, window, masks, drawn, taps_bits)
    geometry.check()
    if output.exists() or output.suffix != ".json":
        raise LiftError(f"{output}: give the name of a new file that ends in .json")
    if min(weights, measured) < group:
        raise LiftError(f"--weights and --measured must be at least one group of {group}")
    beginning = [find_code(name) for name in begin or []]
    if not starts and not beginning:
        raise LiftError("nothing to learn from: give --starts or --begin")
    state = output.with_name(f".{output.name}.state")
    command = f"liftquant codes learn --lifted {lifted} --group {group}" + (
        f" --window {window}" if window else ""
    )
    command += f" --parities {parities}" if parities != "0" else ""
    command += f" --cells {cells}" if cells is not None else ""
    command += f" --taps-bits {taps_bits}" if taps_bits != 8 else ""
    command += "".join(f" --begin {code.name}" for code in beginning)
    command += f" --seed {seed} --starts {starts} --bred {bred} --weights {weights} {output.name}"
    with progress("learning", 1.0) as meter:
        code = learn(
            geometry,
            Schedule(seed, starts, bred, weights),
            state,
            lambda fraction, note: meter.advance(fraction - meter.done, note),
            beginning,
        )
    with progress("measuring"):
        value, error = measure(code, measured, seed)
    record: dict[str, dict[str, Any]] = {
        "mse": {"value": value, "standard_error": error, "weights": measured, "seed": seed},
        "learned": {"command": command, "source": "N(0, 1)"},
    }
    if beginning:
        record["learned"]["begin"] = {code.name: code.sha256 for code in beginning}
    write_definition(code, output, record)
    state.unlink(missing_ok=True)
    err.print(
        f"{output}: {code.name}, MSE {value:.5f} ± {error:.5f}, sha256 {code.sha256}",
        soft_wrap=True,
    )


def _refit(
    code: "LiftCode", taps_bits: int, seed: int, bred: int, measured: int
) -> "tuple[LiftCode, float, float]":
    """The best code found with taps of another width, its MSE and standard error."""
    from algo.geometry import Geometry
    from algo.learn import Schedule, learn, measure

    window = code.window if code.overlap else None
    geometry = Geometry(code.lifted, code.group, window, code.parities, taps_bits=taps_bits)
    title = f"{code.name}, taps of {taps_bits} bits"
    with progress(title, 1.0) as meter:
        found = learn(
            geometry,
            Schedule(seed, starts=0, bred=bred),
            on_progress=lambda fraction, note: meter.advance(fraction - meter.done, note),
            begin=[code],
        )
    return found, *measure(found, measured, seed)


def show_widths(
    name: Annotated[str, typer.Argument(help="A code's name, or a code file.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    bred: Annotated[int, typer.Option(min=1, help="Candidates tried for every width.")] = 40,
    measured: Annotated[
        int, typer.Option(min=1000, help="Fresh samples to measure the MSE on.")
    ] = 1_000_000,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """What a code's MSE becomes with taps of 4 to 8 bits, trained anew at every width.

    A multiplier-free decoder adds and subtracts taps, so their width sets its adders.
    """
    import math

    from algo.shipped import find_code

    code = find_code(name)
    rows: list[dict[str, Any]] = []
    for bits in range(4, 9):
        found, value, error = _refit(code, bits, seed, bred, measured)
        rows.append(
            {
                "name": code.name,
                "taps_bits": bits,
                "mse": value,
                "standard_error": error,
                "gap_db": 10 * math.log10(value * 4**code.rate),
                "definition": found.definition(),
            }
        )
    if json:
        print_json(rows)
        return
    table = Table(title=f"{code.name}: taps trained at each width", title_justify="left")
    for heading in ("taps, bits", "MSE", "± s.e.", "gap, dB"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            str(row["taps_bits"]), f"{row['mse']:.5f}", f"{row['standard_error']:.5f}",
            f"{row['gap_db']:.2f}",
        )  # fmt: skip
    out.print(table)
