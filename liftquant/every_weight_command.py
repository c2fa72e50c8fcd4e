"""``liftquant crosscheck --all``: the RTL on every weight, for machines and for people."""

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from liftquant.console import err, out, print_json, progress

if TYPE_CHECKING:
    from algo.checkpoint import Checkpoint
    from liftquant.every_weight import Build, Settings
    from liftquant.rtl_layer import LayerRun

_COUNTS = ("streams", "weights", "beats_in", "beats", "cycles", "mismatches")


def decoder_sums(runs: "list[LayerRun]", builds: "list[Build]") -> list[dict[str, Any]]:
    """What each decoder checked: counts and seconds summed over its layers."""
    sums = []
    for build in builds:
        mine = [run for run in runs if (run.code, run.groups) == (build.code, build.groups)]
        seconds = sum(run.seconds for run in mine)
        weights = sum(run.weights for run in mine)
        sums.append(
            {
                "code": build.code, "groups": build.groups, "lanes": build.lanes,
                "layers": len(mine), "passed": all(run.passed for run in mine),
                **{count: sum(getattr(run, count) for run in mine) for count in _COUNTS},
                "build_seconds": build.seconds, "seconds": seconds,
                "weights_per_second": weights / seconds if seconds else None,
            }
        )  # fmt: skip
    return sums


def report(runs: "list[LayerRun]", builds: "list[Build]") -> dict[str, Any]:
    """The outcome as JSON values."""
    return {
        "passed": all(run.passed for run in runs),
        "earlier_layers": sum(run.earlier for run in runs),
        **{count: sum(getattr(run, count) for run in runs) for count in _COUNTS},
        "decoders": decoder_sums(runs, builds),
        "layers": [{**asdict(run), "passed": run.passed} for run in runs],
    }


def decoder_table(runs: "list[LayerRun]", builds: "list[Build]") -> Table:
    """The decoders for people."""
    table = Table(title="reference = RTL on every weight", title_justify="left")
    headings = ("code", "groups", "layers", "weights", "beats", "cycles", "build s", "run s")
    for heading in (*headings, "wrong"):
        table.add_column(heading, justify="left" if heading == "code" else "right", no_wrap=True)
    for one in decoder_sums(runs, builds):
        table.add_row(
            one["code"], f"{one['groups']:,}", f"{one['layers']:,}", f"{one['weights']:,}",
            f"{one['beats']:,}", f"{one['cycles']:,}", f"{one['build_seconds']:.1f}",
            f"{one['seconds']:.1f}", f"{one['mismatches']:,}",
        )  # fmt: skip
    return table


def explain(run: "LayerRun") -> str:
    """What is wrong with a layer."""
    lines = [f"{run.layer}: {run.mismatches:,} of {run.weights:,} integers differ"]
    bad = run.first_wrong
    if bad is not None:
        lines += [
            f"  first: weight {bad.weight} of stream {bad.stream}, that is ({bad.row}, "
            f"{bad.column}) of the {run.shape[0]}x{run.shape[1]} matrix",
            f"  bits of its window, first one first: {bad.bits}",
            f"  expected {bad.expected}, got {bad.got}",
            *(f"  possibly: {guess}" for guess in bad.possibly),
        ]
    if run.failure is not None:
        lines.append(f"  protocol: {run.failure}")
    return "\n".join(lines)


def check_every_weight(
    checkpoint: "Checkpoint",
    settings: "Settings",
    layers: list[str] | None,
    workdir: Path,
    report_file: Path | None,
    json: bool,
) -> None:
    """Check, show or write the outcome; exit status 1 where an integer differs."""
    from algo.files import write_json
    from liftquant.every_weight import Listener, every_weight

    err.print(
        f"{settings.lanes} groups per cycle by {settings.architecture}, stalls "
        f"{settings.stalls.probability} by turns, seed {settings.stalls.seed}; records in {workdir}"
    )
    began, used = time.monotonic(), sum(os.times()[:4])
    with progress("crosschecking") as meter:
        listener = Listener(meter.start, meter.advance)
        runs, builds = every_weight(checkpoint, workdir, settings, layers, None, listener)
    result = {
        "checkpoint": str(checkpoint.folder),
        **asdict(settings),
        "seconds": time.monotonic() - began,
        "cpu_seconds": sum(os.times()[:4]) - used,
        **report(runs, builds),
    }
    if report_file:
        write_json(report_file, result)
    if json:
        print_json(result)
    else:
        out.print(decoder_table(runs, builds))
        for run in runs:
            if not run.passed:
                out.print(explain(run), soft_wrap=True)
        if result["earlier_layers"]:
            out.print(f"{result['earlier_layers']} layers were recorded by earlier runs.")
        out.print(
            f"{result['weights']:,} integers in {len(runs)} layers equal the reference; "
            f"{result['cpu_seconds']:.0f} s of processor time."
            if result["passed"] else "NOT equal.",
            style="green" if result["passed"] else "red",
        )  # fmt: skip
    if not result["passed"]:
        raise typer.Exit(1)
