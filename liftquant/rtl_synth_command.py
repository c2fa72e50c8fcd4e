"""``liftquant rtl synth``."""

import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from liftquant.console import err, out, print_json, progress

if TYPE_CHECKING:
    from algo.shipped import ShippedCode
    from hw.cost_designs import Design
    from hw.costs import Cost

CODES = (
    "LQ-2/1+2^4", "LQ-2/1+4^2:2", "LQ-2/1+6", "LQ-2/1+6^8:2", "LQ-2/1+10", "LQ-2/1+10^12",
    "LQ-2/1+10^12:3", "LQ-2/1+14^16:4", "LQ-12/5+9", "LQ-12/5+9^12:3", "LQ-24/10", "LQ-16/8",
)  # fmt: skip
ARCHITECTURES = ("tables:4", "tables:4,flow=credit", "tree")
_LONG = 500_000  # characters
BEAT = 8  # weights: what E8P decodes at once, and so what others are given too


def synth(
    codes: Annotated[
        list[str] | None,
        typer.Argument(help=f"Names of codes or code files; {', '.join(CODES)} unless given."),
    ] = None,
    architecture: Annotated[
        list[str] | None,
        typer.Option(help=f"May be given often; {' and '.join(ARCHITECTURES)} unless given."),
    ] = None,
    lanes: Annotated[
        list[int] | None,
        typer.Option(
            help="Groups per beat, may be given often; 1, and what makes 8 weights, unless given."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=0, help="Runs of nextpnr; 0: none.")] = 3,
    peers: Annotated[bool, typer.Option("--peers", help="Other formats' decoders too.")] = False,
    whole: Annotated[bool, typer.Option("--whole", help="Whole decoders too.")] = False,
    weights: Annotated[
        int, typer.Option(min=1, help="Weights in one stream of whole decoders.")
    ] = 576,
    folder: Annotated[
        Path, typer.Option("--out", help="Directory for costs.json, costs.md, pareto.svg and .png.")
    ] = Path("rtl-costs"),
    jobs: Annotated[
        int, typer.Option(min=1, help="Designs measured side by side; all cores unless given.")
    ] = os.cpu_count() or 1,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Costs of decoders on an ECP5 and in gates: area, clock, latency, and what they buy.

    What is costed is the projection (window bits in, weights out), for every code, architecture and
    number of lanes. Every mapped netlist without block RAM and DSP blocks is checked against its
    Verilog. Results are kept in OUT: the same command again, or after it was stopped, measures only
    what is missing.
    """
    from algo.files import check_folder, write_json, write_text
    from hw.cost_report import report
    from liftquant.costs_plot import plot
    from liftquant.costs_table import cost_table, markdown

    check_folder(folder)
    designs = _designs(
        codes or list(CODES), architecture or list(ARCHITECTURES), lanes or [],
        weights if whole else None,
    )  # fmt: skip
    if peers:
        designs += _peers(lanes or [])
    costs = _measure(designs, seeds, folder / "cache", jobs)
    found = report(costs, seeds)
    write_json(folder / "costs.json", found)
    write_text(folder / "costs.md", markdown(found))
    plot(found, folder)
    if json:
        print_json(found)
    else:
        for table in cost_table(found):
            out.print(table)
    netlists = [m for cost in costs for m in (cost.mapped, cost.without_dsp) if m is not None]
    checked = sum(netlist.check is not None for netlist in netlists)
    err.print(
        f"{', '.join(str(folder / n) for n in ('costs.json', 'costs.md', 'pareto.svg'))}: "
        f"{len(costs)} designs; {checked} mapped netlists ran as their Verilog does, "
        f"{len(netlists) - checked} have block RAM or DSP blocks and no models to run",
        soft_wrap=True,
    )


def _designs(
    names: list[str], architectures: list[str], lanes: list[int], whole: int | None
) -> "list[Design]":
    """Projections, and whole decoders of streams of `whole` weights, no design twice."""
    from hw.architecture import parse_architecture
    from hw.cost_designs import decoder_design, projection_design

    found: dict[str, Design] = {}
    kinds = [parse_architecture(text) for text in architectures]
    for name in names:
        label, shipped = _code(name)
        for kind in kinds:
            for count in lanes or _lanes(shipped.code.group):
                found_here = [projection_design(shipped, label, count, kind)]
                if whole is not None:
                    found_here.append(decoder_design(shipped, label, count, kind, whole))
                found |= {design.label: design for design in found_here}
    return list(found.values())


def _peers(lanes: list[int]) -> "list[Design]":
    from hw.cost_designs import peer_design
    from hw.peers import PEERS

    return [
        peer_design(peer, count)
        for peer in PEERS
        for count in dict.fromkeys(lanes or _lanes(peer.weights))
    ]


def _lanes(weights: int) -> list[int]:
    """One lane of `weights` weights, and as many as make `BEAT`."""
    return sorted({1, -(-BEAT // weights)})


def _code(name: str) -> "tuple[str, ShippedCode]":
    """What to call a code, and its record; a file goes by its own name."""
    from algo.shipped import load_code, read_code, shipped_codes

    if name.endswith(".json"):
        return Path(name).stem, read_code(Path(name))
    return name, shipped_codes()[load_code(name).name]


def _measure(designs: "list[Design]", seeds: int, cache: Path, jobs: int) -> "list[Cost]":
    """The costs of all designs, in their order."""
    from hw.costs import Cache, Cost, measure

    costs: dict[int, Cost] = {}

    def work(design: "Design") -> int:
        """About as much as its Verilog is long, but for what a memory holds."""
        return min(len(design.verilog), _LONG)

    with progress("elaborating", len(designs)) as meter:
        for design in designs:
            _ = design.verilog  # here and not in a thread: Amaranth keeps state of its own
            meter.advance(1, design.label)
    with (
        progress("measuring", sum(map(work, designs))) as meter,
        ThreadPoolExecutor(jobs) as pool,
    ):
        waiting = {
            pool.submit(measure, design, seeds, Cache(cache)): n for n, design in enumerate(designs)
        }
        try:
            for future in as_completed(waiting):
                n = waiting[future]
                costs[n] = future.result()
                meter.advance(work(designs[n]), designs[n].label)
        finally:
            for future in waiting:
                future.cancel()
    return [costs[n] for n in range(len(designs))]
