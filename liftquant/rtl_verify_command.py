"""``liftquant rtl verify``."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from liftquant.console import err, out, print_json
from liftquant.rtl_vectors_command import stored_vectors

if TYPE_CHECKING:
    from algo.code import LiftCode
    from sim.foreign import Difference, Outcome, Verdict


def report(verdict: "Verdict") -> dict[str, Any]:
    """The outcome as JSON values."""
    return {
        "passed": verdict.passed,
        "planned_passes": verdict.planned,
        "passes": [
            {**asdict(one), "passed": one.result.passed} for one in verdict.outcomes
        ],
        "coverage": asdict(verdict.coverage),
        "waves": None if verdict.waves is None else str(verdict.waves),
        "picture": None if verdict.picture is None else str(verdict.picture),
    }  # fmt: skip


def pass_table(verdict: "Verdict") -> Table:
    """The passes for people."""
    table = Table(title="passes", title_justify="left")
    for heading in ("pass", "streams", "weights", "cycles", "waits in", "waits out", "wrong"):
        table.add_column(
            heading, justify="left" if heading == "pass" else "right", no_wrap=heading != "pass"
        )
    table.add_column("verdict", overflow="fold")
    for one in verdict.outcomes:
        found = one.result
        table.add_row(
            one.name, f"{one.streams:,}", f"{found.weights:,}", f"{found.cycles:,}",
            f"{found.waits[0]:,}", f"{found.waits[1]:,}", f"{found.mismatches:,}",
            "right" if found.passed else found.failure or "wrong weights",
        )  # fmt: skip
    return table


def explain(one: "Outcome", bad: "Difference") -> str:
    """The first wrong weight of a pass, with the sum it should be."""
    terms = [f"  {term}" for term in bad.terms]
    lines = [
        f"first mismatch, pass '{one.name}', cycle {one.result.wrong_at}: stream {bad.stream} "
        f"({bad.stream_name}), output beat {bad.beat}, weight {bad.place} of the beat",
        f"  that is weight {bad.weight} of the stream: weight {bad.row} of group {bad.group}",
        f"  expected {bad.expected}, got {bad.got}",
        f"  bits of its window, first one first: {bad.window}",
        f"  expected sum, sign * tap for each bit b[place in the stream], {len(terms)} terms:",
        *terms,
        f"  sum {bad.expected:+d}",
        *(f"  possibly: {guess}" for guess in bad.looks_like),
    ]
    return "\n".join(lines)


def show(verdict: "Verdict", code: "LiftCode") -> None:
    """Print a verdict for people."""
    out.print(pass_table(verdict))
    seen = verdict.coverage
    what = "windows" if code.overlap else "codewords"
    resets = sum(one.name.startswith("reset") for one in verdict.outcomes)
    patterns = dict.fromkeys(one.stalls for one in verdict.outcomes)
    out.print(
        f"tried: {seen.windows_seen:,} of {seen.windows:,} {what} of {code.window} bits; stalls: "
        f"{', '.join(patterns)}; {resets} resets in mid-stream; {seen.output_bits_toggled} of "
        f"{seen.output_bits} output bits toggled (the lowest of each weight is constant)",
        soft_wrap=True,
    )
    wrong = verdict.first_wrong
    if wrong is None:
        total = sum(one.result.weights for one in verdict.outcomes)
        out.print(f"RIGHT: {total:,} weights equal the reference.", style="green")
        return
    if wrong.result.failure is not None:
        out.print(f"protocol, pass '{wrong.name}': {wrong.result.failure}", soft_wrap=True)
    if wrong.difference is not None:
        out.print(explain(wrong, wrong.difference), soft_wrap=True)
    if verdict.waves is not None:
        out.print(f"waveform: {verdict.waves}", soft_wrap=True)
    if verdict.picture is not None:
        out.print(f"picture: {verdict.picture}", soft_wrap=True)
    out.print("WRONG.", style="red")


def verify(
    code: Annotated[str, typer.Option(help="A code's name, say LQ-24/10, or a code file.")],
    rtl: Annotated[
        list[Path], typer.Option(help="A Verilog or SystemVerilog file; may be given often.")
    ],
    top: Annotated[str, typer.Option(help="The module to verify.")],
    ports: Annotated[Path, typer.Option(help="The map of its ports, a TOML file.")],
    weights: Annotated[int, typer.Option(min=1, help="Weights in one stream.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Also send streams of this one.")] = None,
    layer: Annotated[str | None, typer.Option(help="The layer to take them from.")] = None,
    simulator: Annotated[str, typer.Option(help="verilator or icarus.")] = "verilator",
    seed: Annotated[int, typer.Option(min=0, help="Seed of random streams and stalls.")] = 0,
    workdir: Annotated[
        Path, typer.Option(help="Keeps builds, logs, vectors and the waveform.")
    ] = Path("rtl-verify"),
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Verify a decoder of your own, in Verilog, against the reference.

    Corner words, random streams and those of a checkpoint go through it, with stalls on both sides
    and resets in mid-stream, as far as its protocol has them. Every weight is compared with ==.
    Exit status 0: all right; 1: something is wrong; 2: it could not be verified.
    """
    from algo.files import check_folder
    from algo.packing import stream_groups
    from algo.shipped import find_code
    from sim.beat_layout import BeatLayout
    from sim.foreign import Design, verify_foreign
    from sim.foreign_passes import stored_streams
    from sim.port_map import read_port_map
    from sim.toolchain import tool_environment
    from sim.vhdl import as_verilog

    check_folder(workdir)
    tool_environment(simulator)  # what is missing is said before anything is done
    chosen = find_code(code)
    groups = stream_groups(weights, chosen)
    port_map = read_port_map(ports)
    limit = stored_streams(BeatLayout(chosen, groups, port_map), simulator)
    real = stored_vectors(checkpoint, layer, chosen, groups, limit)
    design = Design(as_verilog(rtl, top, workdir), top, port_map)
    began = time.monotonic()

    def stage(name: str) -> None:
        err.print(f"{time.monotonic() - began:5.1f} s  {name}")

    verdict = verify_foreign(design, chosen, groups, workdir, simulator, seed, real, stage)
    stage("done")
    if json:
        print_json(
            {
                "code": chosen.name, "sha256": chosen.sha256, "top": top, "groups": groups,
                "protocol": port_map.protocol, "simulator": simulator, "seed": seed,
                **report(verdict),
            }
        )  # fmt: skip
    else:
        show(verdict, chosen)
    if not verdict.passed:
        raise typer.Exit(1)
