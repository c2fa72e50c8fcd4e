"""``liftquant rtl prove``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from liftquant.console import out, print_json, progress
from liftquant.rtl_geometry import described

if TYPE_CHECKING:
    from algo.code import LiftCode
    from hw.geometry import Geometry
    from liftquant.rtl_prove_loadable import Loadable

    # what a decoder is, its Verilog, and the name of its module
    Subject = tuple[Geometry | Loadable, str, str]


def prove(
    code: Annotated[
        list[str] | None, typer.Argument(help="Names of codes, say LQ-24/10, or code files.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every shipped code.")] = False,
    exported: Annotated[
        Path | None,
        typer.Option(help="A .v file from `rtl export`, with its sidecar beside it, instead."),
    ] = None,
    weights: Annotated[int, typer.Option(min=1, help="Weights in one stream.")] = 576,
    lanes: Annotated[int, typer.Option(min=1, help="Groups decoded per clock cycle.")] = 1,
    architecture: Annotated[
        str, typer.Option(help="tables:K, tree or shared:C, as `rtl export` takes it.")
    ] = "tables:4",
    width: Annotated[int, typer.Option(help="Bits of a weight, as `rtl export` takes it.")] = 12,
    scale: Annotated[
        str | None, typer.Option(help="AXIS:MULTIPLIER_BITS:SHIFT, as `rtl export` takes it.")
    ] = None,
    report_file: Annotated[
        Path | None, typer.Option("--report", help="Also write the result to this JSON file.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Prove that decoders are right for all inputs, at all times.

    The decoder's Verilog is mapped to gates. Its sums are compared with the code's taps by decision
    diagrams, for every window; that its streams lose, double and reorder nothing is proved by
    induction. Exit status 0: nothing was refuted; 1: something was, with a counterexample; 2: it
    could not be tried.
    """
    from algo.errors import LiftError
    from algo.files import write_json
    from liftquant.rtl_prove_loadable import is_loadable

    chosen = [bool(code), every, exported is not None]
    if exported and not exported.is_file():
        raise LiftError(f"{exported} does not exist; give a .v that `liftquant rtl export` wrote")
    if exported and is_loadable(exported):
        chosen = [not code or not every]  # of those that it can load
    if sum(chosen) != 1:
        raise LiftError(
            "give codes, or --all, or --exported FILE.v, one of the three (beside a loadable "
            "decoder's FILE.v, codes or --all say what is loaded)"
        )
    found: list[dict[str, Any]] = []
    subjects = (
        [_read_export(exported, code or [], weights)]
        if exported
        else _subjects(code or [], weights, lanes, architecture, width, scale)
    )
    with progress("proving", len(subjects)) as meter:
        for subject in subjects:
            found.append(_prove_one(subject, lambda claim: meter.advance(0, claim)))
            if report_file:  # a long run that is stopped keeps what it found
                write_json(report_file, _result(found))
            meter.advance(1, found[-1]["code"])
    result = _result(found)
    if json:
        print_json(result)
    else:
        _show(found)
    if result["refuted"]:
        raise typer.Exit(1)


def _result(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {"refuted": sum(d["outcome"] == "refuted" for d in found), "decoders": found}


def _subjects(
    names: list[str], weights: int, lanes: int, architecture: str, width: int, scale: str | None
) -> "list[Subject]":
    """The decoders to prove, of the codes named or of all."""
    from algo.packing import stream_groups
    from algo.shipped import find_code, shipped_codes
    from hw.architecture import parse_architecture
    from hw.geometry import Geometry
    from hw.output import Output, parse_scale
    from hw.prove import TOP

    chosen = parse_architecture(architecture)
    output = Output(width, None if scale is None else parse_scale(scale))
    codes: list[LiftCode]
    codes = [find_code(n) for n in names] or [s.code for s in shipped_codes().values()]
    geometries = [
        Geometry(code, stream_groups(weights, code), lanes, chosen, output) for code in codes
    ]
    return [(geometry, "", TOP) for geometry in geometries]


def _read_export(path: Path, names: list[str], weights: int) -> "Subject":
    from algo.code import LiftCode
    from algo.errors import LiftError
    from algo.files import read_json
    from hw.architecture import parse_architecture
    from hw.geometry import Geometry
    from hw.output import Output, Scale
    from liftquant.rtl_prove_loadable import read_loadable

    sidecar = read_json(path.with_suffix(".json"))
    if isinstance(sidecar, dict) and "lanes" in sidecar and "groups" not in sidecar:
        raise LiftError(f"{path} is an engine; proofs are for decoders")
    try:
        if "capacity" in sidecar:
            loadable = read_loadable(sidecar, names, weights)
            return loadable, path.read_text(encoding="utf-8"), str(sidecar["module"])
        code = LiftCode.from_definition(sidecar["code"], str(path.with_suffix(".json")))
        scale = sidecar["scale"] and Scale(
            *(sidecar["scale"][key] for key in ("axis", "multiplier_bits", "shift"))
        )
        geometry = Geometry(
            code, int(sidecar["groups"]), int(sidecar["lanes"]),
            parse_architecture(sidecar["architecture"]["text"]),
            Output(int(sidecar["output"]["weight"]["width"]), scale),
        )  # fmt: skip
        return geometry, path.read_text(encoding="utf-8"), str(sidecar["module"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, LiftError):
            raise
        raise LiftError(
            f"{path.with_suffix('.json')} is no sidecar of `liftquant rtl export`: {error!r}"
        ) from None


def _prove_one(subject: "Subject", step: Any) -> dict[str, Any]:
    """The proofs of one decoder as JSON values."""
    import hashlib
    import time

    from hw.prove import decoder_verilog, prove_decoder
    from liftquant.rtl_prove_loadable import Loadable

    what, verilog, top = subject
    started = time.perf_counter()
    if isinstance(what, Loadable):
        proofs = what.prove(verilog, top, step)
    else:
        verilog = verilog or decoder_verilog(what)
        proofs = prove_decoder(what, verilog, step, top)
    outcomes = {proof.outcome for proof in proofs}
    return {
        **(
            what.describe()
            if isinstance(what, Loadable)
            else {**described(what), "output": asdict(what.output)}
        ),
        "verilog_sha256": hashlib.sha256(verilog.encode()).hexdigest(),
        "outcome": next(o for o in ("refuted", "bounded", "proved") if o in outcomes),
        "seconds": time.perf_counter() - started,
        "proofs": [asdict(proof) for proof in proofs],
    }


def _show(found: list[dict[str, Any]]) -> None:
    """One line a decoder, then what the columns mean and what went wrong."""
    from hw.prove import CLAIMS
    from hw.prove_loadable import LOADABLE_CLAIMS

    claims = CLAIMS | LOADABLE_CLAIMS
    methods = {p["claim"]: p["method"] for decoder in found for p in decoder["proofs"]}
    table = Table(title="seconds by proof", title_justify="left")
    table.add_column("code", no_wrap=True)
    for heading in ("groups", "lanes", "nodes", *methods, "all"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("outcome")
    for decoder in found:
        proofs = {proof["claim"]: proof for proof in decoder["proofs"]}
        cells = [f"{proofs[c]['seconds']:.2f}" if c in proofs else "" for c in methods]
        table.add_row(
            decoder["code"], str(decoder.get("groups", "")), str(decoder.get("lanes", "")),
            f"{sum(p['nodes'] for p in decoder['proofs']):,}", *cells, f"{decoder['seconds']:.2f}",
            decoder["outcome"],
        )  # fmt: skip
    out.print(table)
    for claim, method in methods.items():
        out.print(f"{claim}: {claims[claim]} ({method})")
    for decoder in found:
        for proof in decoder["proofs"]:
            if proof["outcome"] != "proved":
                out.print(
                    f"{decoder['code']}, {proof['claim']} {proof['outcome']}: {proof['detail']}",
                    style="red",
                    soft_wrap=True,
                )
    counts = {o: sum(d["outcome"] == o for d in found) for o in ("proved", "bounded", "refuted")}
    out.print(
        f"{counts['proved']} proved, {counts['bounded']} in part only up to a bound, "
        f"{counts['refuted']} refuted.",
        style="red" if counts["refuted"] else "green",
    )
