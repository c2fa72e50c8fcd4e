"""A decoder's Verilog proved: its sums for every window, its streams for all time.

The proofs follow the data. Each part is proved in the exported text itself, the gearbox and the
window in an environment that does anything, so what holds of the parts holds of the whole: a
stream's bits are queued unchanged, every group gets its window, every window its weights, in order.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from algo.code import LiftCode
from algo.errors import LiftError
from hw.formal_arithmetic import prove_projection
from hw.formal_chain import FormalChain
from hw.formal_gearbox import FormalGearbox
from hw.formal_structure import check_chain, part_nets, paths_within_a_cycle
from hw.formal_window import FormalWindow
from hw.geometry import Geometry
from hw.induction import prove_by_induction
from hw.netlist import CombinationalLoop, Netlist, map_verilog
from hw.output import SUMS

TOP = "liftquant_decoder"


@dataclass(frozen=True)
class Proof:
    """One claim about one decoder, and what became of it.

    Attributes:
        claim: what was to be proved: ``sums``, ``pipeline``, ``wiring``, ``paths``, ``chain``,
            ``gearbox`` or ``window`` (`CLAIMS` says it in words).
        method: how.
        outcome: ``proved``, ``refuted``, or ``bounded``: no violation in as many cycles from reset
            as `detail` says, and no more is known.
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
    "pipeline": "the projection's registers are a chain of stages, each moved as one",
    "chain": "such a chain loses, doubles and reorders nothing; offers are stable",
    "gearbox": "the gearbox cuts streams as stated and keeps every bit; offers are stable",
    "window": "every window is its stream's bits, wrapped round; offers are stable",
    "wiring": "the three parts are connected to each other and the ports, and to one clock",
    "paths": "every output comes from registers alone; no net depends on itself",
}


def decoder_verilog(geometry: Geometry) -> str:
    """The text that `hw.export` writes for a decoder."""
    from hw.decoder import Decoder
    from hw.export import verilog_text

    decoder = Decoder(geometry.code, geometry.groups, geometry.lanes, geometry.architecture)
    return verilog_text(decoder, TOP)


def check_provable(geometry: Geometry) -> None:
    """Raise LiftError for a decoder that the proofs have no model of."""
    architecture = geometry.architecture
    if architecture.kind == "shared" or architecture.flow != "chain":
        raise LiftError(
            f"architecture {architecture} has no proof: adders shared over cycles and credits are "
            "tested in simulation only; prove `tree` or `tables:K` with flow=chain"
        )
    if geometry.output != SUMS:
        raise LiftError(
            "saturated or scaled weights have no proof; export without --width and --scale"
        )


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
    proofs = []
    for claim, method, attempt in _attempts(geometry, netlist, verilog, top):
        step(claim)
        started = time.perf_counter()
        outcome, nodes, detail = attempt()
        seconds = time.perf_counter() - started
        proofs.append(Proof(claim, method, outcome, seconds, nodes, detail))
    return proofs


_Outcome = tuple[str, int, str]  # outcome, nodes, detail


def _attempts(
    geometry: Geometry, netlist: Netlist, verilog: str, top: str
) -> Iterator[tuple[str, str, Callable[[], _Outcome]]]:
    yield "sums", "BDD", lambda: _sums(netlist, geometry)
    yield "pipeline", "structure, BDD", lambda: _pipeline(netlist, geometry)
    yield "chain", "induction", lambda: _induction(FormalChain(_stages(geometry)))
    gearbox = FormalGearbox(geometry)
    text = (verilog, f"{top}.gearbox")
    yield "gearbox", "induction", lambda: _induction(gearbox, gearbox.probes, text)
    if geometry.code.overlap:
        window = FormalWindow(geometry)
        there = (verilog, f"{top}.window")
        yield "window", "induction", lambda: _induction(window, window.probes, there)
    yield "wiring", "structure", lambda: _wiring(netlist, geometry.code)
    yield "paths", "structure", lambda: _paths(netlist)


def _stages(geometry: Geometry) -> int:
    from hw.terms import projection_stages

    return projection_stages(geometry.code, geometry.architecture)


def _sums(netlist: Netlist, geometry: Geometry) -> _Outcome:
    refutation, nodes = prove_projection(
        netlist,
        geometry.code,
        geometry.lanes,
        netlist.signal("projection.i__payload"),
        netlist.outputs["o__payload"],
    )
    if refutation is not None:
        return "refuted", nodes, refutation.describe(geometry.window_bits)
    weights = geometry.lanes * geometry.code.group
    return "proved", nodes, f"{weights} weights, all 2^{geometry.window_bits} windows"


def _pipeline(netlist: Netlist, geometry: Geometry) -> _Outcome:
    try:
        stages = check_chain(netlist, projection_nets(netlist, geometry.code.overlap))
    except NotAChain as difference:
        return "refuted", 0, str(difference)
    if stages != _stages(geometry):
        return "refuted", 0, f"{stages} stages, not the {_stages(geometry)} that latency counts"
    return "proved", 0, f"{stages} stages"


def _induction(harness: object, *arguments: object) -> _Outcome:
    found = prove_by_induction(harness, *arguments)  # type: ignore[arg-type]
    detail = {
        "proved": f"k = {found.depth}, any number of cycles",
        "bounded": f"{found.depth} cycles from reset",
        "refuted": f"violated from reset in {found.depth} cycles:\n{found.trace}",
    }
    return found.outcome, 0, detail[found.outcome]


def _wiring(netlist: Netlist, code: LiftCode) -> _Outcome:
    parts = ["gearbox", *(["window"] if code.overlap else []), "projection"]
    ends = [
        ("i", f"{parts[0]}.i"),
        *((f"{a}.o", f"{b}.i") for a, b in pairwise(parts)),
        (f"{parts[-1]}.o", "o"),
    ]
    for left, right in ends:
        for wire in ("valid", "ready", "payload"):
            one, other = (netlist.signal(f"{end}__{wire}") for end in (left, right))
            if one != other:
                return "refuted", 0, f"{left}__{wire} is not {right}__{wire}"
    if (netlist.clock,) != netlist.inputs["clk"]:
        return "refuted", 0, "the registers' clock is not the port clk"
    for part in parts:
        if netlist.signal(f"{part}.rst") != netlist.inputs["rst"]:
            return "refuted", 0, f"the reset of {part} is not the port rst"
    return "proved", 0, " to ".join(parts)


def _paths(netlist: Netlist) -> _Outcome:
    try:
        broken = paths_within_a_cycle(netlist)
    except CombinationalLoop as loop:
        return "refuted", 0, str(loop)
    if broken:
        return "refuted", 0, "; ".join(broken)
    return "proved", 0, f"{len(netlist.gates)} gates, {len(netlist.registers)} registers"
