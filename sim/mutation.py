"""How many faults the bench finds: mutants of a decoder, each driven like the decoder itself."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from algo.errors import LiftError
from hw.geometry import Geometry
from hw.mutants import SELECT, Mutant, Mutants
from hw.netlist_sim import NetlistSimulator
from sim.bench import break_off, exercise
from sim.decoder_passes import WHOLE, DecoderPass, Finding, Weakening, decoder_passes, judge
from sim.lanes import LaneAdapter, Lanes, reset
from sim.result import BenchResult

def find_mutants(
    geometry: Geometry,
    mutants: Mutants,
    seed: int = 0,
    without: Weakening = WHOLE,
    step: Callable[[str], None] = lambda what: None,
) -> dict[int, Finding]:
    """Run every pass on the decoder and on all its mutants; what was found, by mutant number.

    Raises:
        LiftError: the decoder itself does not pass, or a fault closed a combinational loop.
    """
    count = len(mutants.mutants)
    simulator = NetlistSimulator(mutants.netlist, count + 1, seed)
    simulator.set(SELECT, range(count + 1))
    simulator.scramble()
    lanes = Lanes(simulator)
    found: dict[int, Finding] = {}
    for one in decoder_passes(geometry, seed, without):
        step(one.name)
        alive = [lane for lane in range(count + 1) if lane not in found]
        results = lanes.run(alive, lambda design, one=one: run_pass(design, one))
        for lane, result in results.items():
            finding = judge(geometry, one, result, results[0], without)
            if finding is not None:
                found[lane] = finding
        if 0 in found:
            raise LiftError(f"the decoder itself does not pass: {found[0].what}")
    return found


async def run_pass(design: LaneAdapter, one: DecoderPass) -> BenchResult:
    """Reset a lane and take it through a pass."""
    await reset(design)
    if one.broken_off:
        await break_off(design, one.stimulus, one.broken_off)
        await reset(design)
    return await exercise(design, one.stimulus, to_first=True)
