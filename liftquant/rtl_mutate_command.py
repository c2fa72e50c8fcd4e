"""``liftquant rtl mutate``."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from liftquant.console import out, print_json, progress
from liftquant.rtl_geometry import decoder_geometry, described, geometry_line

if TYPE_CHECKING:
    from sim.mutation import MutationResult, Verdict


def mutate(
    code: Annotated[
        str, typer.Argument(help="A code's name, say LQ-24/10, or a code file.")
    ] = "LQ-2/1+6",
    weights: Annotated[int, typer.Option(min=1, help="Weights in one stream.")] = 50,
    lanes: Annotated[int, typer.Option(min=1, help="Groups decoded per clock cycle.")] = 1,
    architecture: Annotated[
        str, typer.Option(help="Of the projection, as `rtl export` takes it.")
    ] = "tables:4",
    mutants: Annotated[int, typer.Option(min=1, help="Faults to try.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of faults, streams and stalls.")] = 0,
    at_least: Annotated[
        float, typer.Option(min=0, max=100, help="Score in per cent that must be reached.")
    ] = 99.0,
    report_file: Annotated[
        Path | None, typer.Option("--report", help="Also write the result to this JSON file.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Put faults into a decoder's Verilog and count how many the bench finds.

    Every mutant goes through the bench's passes. Survivors that are proved to be the same decoder
    do not count; the others are listed. Score: killed mutants over those not proved equivalent.
    Exit status 0: the score is reached; 1: it is not; 2: it could not be tried.
    """
    from algo.files import write_json
    from hw.mutants import make_mutants
    from hw.prove import TOP, decoder_verilog
    from sim.mutation import try_mutants

    geometry = decoder_geometry(code, weights, lanes, architecture)
    with progress("mutants", mutants) as meter:
        made = make_mutants(decoder_verilog(geometry), TOP, mutants, seed)
        result = try_mutants(geometry, made, seed, step=meter.advance)
    values = {**described(geometry), "seed": seed, **_values(result)}
    if report_file:
        write_json(report_file, values)
    if json:
        print_json(values)
    else:
        _show(f"{geometry_line(geometry)}, seed {seed}", result)
    if result.score < at_least:
        raise typer.Exit(1)


def _values(result: "MutationResult") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "mutants": len(result.verdicts),
        "killed": result.count("killed"),
        "killed_by": result.killed_by(),
        "equivalent": result.count("equivalent"),
        "survivors": result.count("survivor"),
        "score": result.score,
        "verdicts": [{"outcome": v.outcome, **asdict(v)} for v in result.verdicts],
    }


def _show(subject: str, result: "MutationResult") -> None:
    def lines(outcome: str) -> "Iterable[Verdict]":
        return (verdict for verdict in result.verdicts if verdict.outcome == outcome)

    for verdict in lines("survivor"):
        out.print(
            f"SURVIVOR {verdict.mutant.number}: {verdict.mutant.describe()}",
            style="red",
            soft_wrap=True,
        )
    proofs = [verdict.proof for verdict in lines("equivalent")]
    checks = ", ".join(f"{count} by {check}" for check, count in result.killed_by().items())
    out.print(f"{subject}: {len(result.verdicts)} mutants", soft_wrap=True)
    out.print(f"  {result.count('killed'):4} killed: {checks}", soft_wrap=True)
    for proof in sorted({proof for proof in proofs if proof}):
        out.print(f"  {proofs.count(proof):4} proved equivalent: {proof}", soft_wrap=True)
    out.print(f"  {result.count('survivor'):4} survived")
    out.print(f"score {result.score:.2f} %")
