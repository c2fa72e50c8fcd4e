"""A decoder's Verilog proved: its sums for every window, its streams for all time.

The proofs follow the data. Each part is proved in the exported text itself, in an environment that
does anything, so what holds of the parts holds of the whole: a stream's bits are queued unchanged,
every group gets its window, every window its weights, in order.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hw.formal_arithmetic import prove_projection
from hw.formal_chain import FormalChain
from hw.formal_control import OtherMachine
from hw.formal_credit import FormalCredit
from hw.formal_gearbox import FormalGearbox
from hw.formal_output import free_multiplier_bits, prove_output
from hw.formal_shared import FormalShared
from hw.formal_step_sums import prove_steps
from hw.formal_steps import check_steps, stepped_nets
from hw.formal_structure import check_chain, part_nets, paths_within_a_cycle
from hw.formal_window import FormalWindow
from hw.formal_wiring import check_finish, check_last, check_wiring, core_name, finish_name
from hw.geometry import Geometry
from hw.induction import prove_by_induction
from hw.netlist import CombinationalLoop, Netlist, map_verilog
from hw.output import SUMS
from hw.terms import adder_ranks, projection_stages

TOP = "liftquant_decoder"


@dataclass(frozen=True)
class Proof:
    """One claim about one decoder, and what became of it.

    Attributes:
        claim: what was to be proved, one of `CLAIMS`, which says it in words.
        method: how.
        outcome: ``proved``, ``refuted``, or ``bounded``: no violation in as many cycles from reset
            or for such multipliers as `detail` says, and no more is known.
        seconds: wall-clock time.
        nodes: of the decision diagrams; 0 where there are none.
        detail: sizes where proved, the counterexample where refuted.
    """

    claim: str
    method: str
    outcome: str
    seconds: float
    nodes: int
    detail: str


CLAIMS = {
    "sums": "every weight is the code's sum, for every window",
    "pipeline": "the registers behind the window are the stages that the other claims are about",
    "chain": "a chain of stages loses, doubles and reorders nothing; offers are stable",
    "steps": "every beat's steps are added up, all and in order; nothing is lost, doubled or "
    "reordered; offers are stable",
    "queue": "credits keep a place for every beat; the output queue loses, doubles and reorders "
    "nothing; offers are stable",
    "output": "every weight is its sum, scaled and saturated, for all sums and multipliers",
    "gearbox": "the gearbox cuts streams as stated and keeps every bit; offers are stable",
    "window": "every window is its stream's bits, wrapped round; offers are stable",
    "last": "a stream's last beat is marked, and no other",
    "wiring": "the parts are connected to each other and the ports, and to one clock",
    "paths": "outputs come from registers, but for paths that are stated; no net depends on itself",
}


def decoder_verilog(geometry: Geometry) -> str:
    """The text that `hw.export` writes for a decoder."""
    from hw.decoder import Decoder
    from hw.export import verilog_text

    decoder = Decoder(
        geometry.code, geometry.groups, geometry.lanes, geometry.architecture, geometry.output
    )
    return verilog_text(decoder, TOP)


def prove_decoder(
    geometry: Geometry,
    verilog: str,
    step: Callable[[str], None] = lambda claim: None,
    top: str = TOP,
) -> list[Proof]:
    """Prove every claim about a decoder's Verilog.

    Args:
        geometry: says what the decoder is to be.
        verilog: its text, as from `decoder_verilog`.
        step: told each claim before it is tried.
        top: the decoder's module.

    Raises:
        LiftError: a tool is missing, or the text is no decoder of this project.
    """
    step("netlist")
    netlist = map_verilog(verilog, top)
    return attempt_all(_attempts(geometry, netlist, verilog, top), step)


Outcome = tuple[str, int, str]  # outcome, nodes, detail


def attempt_all(
    attempts: Iterator[tuple[str, str, Callable[[], Outcome]]], step: Callable[[str], None]
) -> list[Proof]:
    """Try claims, each with its method, one after the other, and time them."""
    proofs = []
    for claim, method, attempt in attempts:
        step(claim)
        started = time.perf_counter()
        outcome, nodes, detail = attempt()
        seconds = time.perf_counter() - started
        proofs.append(Proof(claim, method, outcome, seconds, nodes, detail))
    return proofs


def _attempts(
    geometry: Geometry, netlist: Netlist, verilog: str, top: str
) -> Iterator[tuple[str, str, Callable[[], Outcome]]]:
    shared = geometry.architecture.kind == "shared"
    yield "sums", "BDD", lambda: (_stepped_sums if shared else _sums)(netlist, geometry)
    yield "pipeline", "structure, BDD", lambda: _pipeline(netlist, geometry)
    if shared:
        steps = FormalShared(geometry.architecture.cycles, _ranks(geometry))
        yield "steps", "induction", lambda: by_induction(steps)
    chains = [] if shared else [_stages(geometry)]
    chains += [geometry.output.stages] if geometry.output.stages else []
    if chains:
        yield "chain", "induction", lambda: _chains(chains)
    if geometry.queued:
        credit = FormalCredit(geometry)
        here = (verilog, f"{top}.projection")
        yield "queue", "induction", lambda: by_induction(credit, credit.probes, here, credit.cuts)
    if geometry.output != SUMS:
        yield "output", "BDD", lambda: _output(netlist, geometry)
    gearbox = FormalGearbox(geometry)
    text = (verilog, f"{top}.gearbox")
    yield "gearbox", "induction", lambda: by_induction(gearbox, gearbox.probes, text)
    if geometry.code.overlap:
        window = FormalWindow(geometry)
        there = (verilog, f"{top}.window")
        yield "window", "induction", lambda: by_induction(window, window.probes, there)
    if "last" in netlist.outputs:
        yield "last", "structure, BDD", lambda: _last(netlist, geometry)
    yield "wiring", "structure", lambda: _wiring(netlist, geometry)
    yield "paths", "structure", lambda: paths_outcome(netlist)


def _stages(geometry: Geometry) -> int:
    return projection_stages(geometry.code, geometry.architecture)


def _ranks(geometry: Geometry) -> int:
    """Stages of a projection in steps: its tables and the ranks of its adders."""
    return 1 + adder_ranks(geometry.code, geometry.architecture)


def _sums(netlist: Netlist, geometry: Geometry) -> Outcome:
    core = core_name(geometry)
    refutation, nodes = prove_projection(
        netlist,
        geometry.code,
        geometry.lanes,
        netlist.signal(f"{core}.i__payload"),
        netlist.signal(f"{core}.o__payload"),
    )
    if refutation is not None:
        return "refuted", nodes, refutation.describe(geometry.window_bits)
    return "proved", nodes, _windows(geometry)


def _stepped_sums(netlist: Netlist, geometry: Geometry) -> Outcome:
    nets = stepped_nets(netlist, geometry, core_name(geometry))
    try:
        refutation, nodes = prove_steps(netlist, nets, geometry)
    except OtherMachine as difference:
        return "refuted", 0, str(difference)
    if refutation is not None:
        return "refuted", nodes, refutation.describe(geometry.window_bits)
    return "proved", nodes, f"{_windows(geometry)}, {geometry.architecture.cycles} steps"


def _windows(geometry: Geometry) -> str:
    return f"{geometry.lanes * geometry.code.group} weights, all 2^{geometry.window_bits} windows"


def _pipeline(netlist: Netlist, geometry: Geometry) -> Outcome:
    core = core_name(geometry)
    try:
        if geometry.architecture.kind == "shared":
            stages = check_steps(netlist, stepped_nets(netlist, geometry, core))
            counted = _ranks(geometry)
        else:
            stages = check_chain(netlist, part_nets(netlist, core))
            counted = _stages(geometry)
        finish = check_finish(netlist, geometry)
    except OtherMachine as difference:
        return "refuted", 0, str(difference)
    if (stages, finish) != (counted, geometry.output.stages):
        latency = f"{counted} and {geometry.output.stages} that latency counts"
        return "refuted", 0, f"{stages} stages and {finish} behind them, not the {latency}"
    return "proved", 0, f"{stages} stages" + (f", then {finish}" if finish else "")


def _chains(lengths: list[int]) -> Outcome:
    """The first attempt that is not proved, or the last."""
    found = "proved", 0, ""
    for stages in dict.fromkeys(lengths):
        found = by_induction(FormalChain(stages))
        if found[0] != "proved":
            break
    return found


def by_induction(
    harness: object,
    probes: object = None,
    verilog: object = None,
    cuts: object = (),
) -> Outcome:
    """What `prove_by_induction` finds, in words."""
    found = prove_by_induction(harness, probes, verilog, cuts=cuts)  # type: ignore[arg-type]
    detail = {
        "proved": f"k = {found.depth}, any number of cycles",
        "bounded": f"{found.depth} cycles from reset",
        "refuted": f"violated from reset in {found.depth} cycles:\n{found.trace}",
    }
    return found.outcome, 0, detail[found.outcome]


def _output(netlist: Netlist, geometry: Geometry) -> Outcome:
    finish, scale = finish_name(geometry), geometry.output.scale
    sums = netlist.signal(f"{finish}.i__payload" if finish else "projection.o__payload")
    factors = netlist.signal(f"{finish}.scale__payload") if scale else ()
    weights = netlist.outputs["o__payload"]
    wrong, nodes, circuits = prove_output(netlist, sums, factors, weights, geometry.output)
    if wrong is not None:
        return "refuted", nodes, wrong.describe()
    detail = f"{circuits} circuits, all sums"
    if scale is None:
        return "proved", nodes, detail
    parts = free_multiplier_bits(scale.multiplier_bits)
    if len(parts) == 1:
        return "proved", nodes, f"{detail}, all 2^{scale.multiplier_bits} multipliers"
    bits = len(parts[0])
    return "bounded", nodes, f"{detail}, all multipliers of {bits} bits times a power of two"


def _last(netlist: Netlist, geometry: Geometry) -> Outcome:
    try:
        check_last(netlist, geometry)
    except OtherMachine as difference:
        return "refuted", 0, str(difference)
    return "proved", 0, f"every {geometry.beats_out} beats"


def _wiring(netlist: Netlist, geometry: Geometry) -> Outcome:
    try:
        return "proved", 0, check_wiring(netlist, geometry)
    except OtherMachine as difference:
        return "refuted", 0, str(difference)


def paths_outcome(netlist: Netlist) -> Outcome:
    """What `paths_within_a_cycle` finds, in words."""
    try:
        broken = paths_within_a_cycle(netlist)
    except CombinationalLoop as loop:
        return "refuted", 0, str(loop)
    if broken:
        return "refuted", 0, "; ".join(broken)
    return "proved", 0, f"{len(netlist.gates)} gates, {len(netlist.registers)} registers"
