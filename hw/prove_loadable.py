"""A loadable decoder's Verilog proved: its buffer for all time, its sums for the codes loaded."""

from collections.abc import Callable, Iterator, Sequence

from algo.code import LiftCode
from hw.capacity import Capacity
from hw.formal_buffer import FormalBuffer
from hw.formal_chain import FormalChain
from hw.formal_control import OtherMachine
from hw.formal_loadable import (
    LoadableNets,
    check_load,
    check_parts,
    check_rows,
    loadable_nets,
    prove_loaded,
)
from hw.netlist import Netlist, map_verilog
from hw.prove import Outcome, Proof, attempt_all, by_induction, paths_outcome

LOADABLE_CLAIMS = {
    "load": "a write replaces what is at its address and nothing else, only between streams",
    "rows": "taps and shifts are those of the weight whose window is given",
    "buffer": "every weight gets its window of whatever valid code is loaded; offers are stable",
    "parts": "buffer, registers, pipeline and ports are connected; the pipeline is a chain",
    "loaded": "every weight of every code listed is its sum once loaded, for every window",
}


def prove_loadable(
    capacity: Capacity,
    codes: Sequence[tuple[LiftCode, int]],
    verilog: str,
    top: str,
    step: Callable[[str], None] = lambda claim: None,
) -> list[Proof]:
    """Prove every claim about a loadable decoder's Verilog.

    Args:
        capacity: says what it holds.
        codes: those to load, with the groups of their streams.
        verilog: its text.
        top: its module.
        step: told each claim before it is tried.

    Raises:
        LiftError: a tool is missing, a code does not fit, or the text is no such decoder.
    """
    for code, groups in codes:
        capacity.check(code, groups)
    step("netlist")
    netlist = map_verilog(verilog, top)
    return attempt_all(_attempts(capacity, codes, netlist, verilog, top), step)


def _attempts(
    capacity: Capacity,
    codes: Sequence[tuple[LiftCode, int]],
    netlist: Netlist,
    verilog: str,
    top: str,
) -> Iterator[tuple[str, str, Callable[[], Outcome]]]:
    def with_nets(check: Callable[[LoadableNets], str]) -> Outcome:
        try:
            return "proved", 0, check(loadable_nets(netlist, capacity))
        except OtherMachine as difference:
            return "refuted", 0, str(difference)

    def rows(nets: LoadableNets) -> str:
        check_rows(netlist, nets)
        return f"{capacity.group} rows"

    def parts(nets: LoadableNets) -> str:
        stages = check_parts(netlist, nets)
        if stages != capacity.stages:
            raise OtherMachine(f"{stages} stages, not the {capacity.stages} that latency counts")
        return f"{stages} stages"

    yield "loaded", "BDD", lambda: _loaded(netlist, capacity, codes)
    yield "load", "structure, BDD", lambda: with_nets(lambda n: f"{check_load(netlist, n)} bits")
    yield "rows", "structure, BDD", lambda: with_nets(rows)
    yield "parts", "structure, BDD", lambda: with_nets(parts)
    yield "chain", "induction", lambda: by_induction(FormalChain(capacity.stages))
    harness = FormalBuffer(capacity)
    here = (verilog, f"{top}.buffer")
    yield "buffer", "induction", lambda: by_induction(harness, harness.probes, here)
    yield "paths", "structure", lambda: paths_outcome(netlist)


def _loaded(netlist: Netlist, capacity: Capacity, codes: Sequence[tuple[LiftCode, int]]) -> Outcome:
    nodes = 0
    try:
        nets = loadable_nets(netlist, capacity)
    except OtherMachine as difference:
        return "refuted", 0, str(difference)
    for code, groups in codes:
        refutation, used = prove_loaded(netlist, nets, capacity, code, groups)
        nodes += used
        if refutation is not None:
            return "refuted", nodes, f"{code.name}: {refutation.describe(capacity.window)}"
    return "proved", nodes, f"{len(codes)} codes"
