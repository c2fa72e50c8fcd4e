"""How many faults the bench finds: mutants of a decoder, each driven like the decoder itself."""

from collections.abc import Callable
from dataclasses import dataclass

from algo.errors import LiftError
from hw.equivalence import Equivalence
from hw.geometry import Geometry
from hw.mutants import SELECT, Mutant, Mutants
from hw.netlist_sim import NetlistSimulator
from sim.bench import break_off, exercise
from sim.decoder_passes import WHOLE, DecoderPass, Finding, Weakening, decoder_passes, judge
from sim.lanes import LaneAdapter, Lanes, reset
from sim.result import BenchResult

Step = Callable[[int, str], None]  # mutants that were decided, and what comes next


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        mutant: the fault.
        finding: what the bench found; None for a survivor.
        proof: how a survivor was proved to be the same decoder; None where it was not.
    """

    mutant: Mutant
    finding: Finding | None
    proof: str | None

    @property
    def outcome(self) -> str:
        """``killed``, ``equivalent``, or ``survivor``: neither killed nor proved equivalent."""
        if self.finding is not None:
            return "killed"
        return "survivor" if self.proof is None else "equivalent"


@dataclass(frozen=True)
class MutationResult:
    """The verdicts on all mutants of one decoder."""

    verdicts: tuple[Verdict, ...]

    def count(self, outcome: str) -> int:
        """Mutants of an outcome."""
        return sum(verdict.outcome == outcome for verdict in self.verdicts)

    def killed_by(self) -> dict[str, int]:
        """Killed mutants by the check that found them first."""
        checks = [v.finding.check for v in self.verdicts if v.finding is not None]
        return {check: checks.count(check) for check in sorted(set(checks))}

    @property
    def score(self) -> float:
        """Killed mutants over those not proved equivalent, in per cent; 100 without any."""
        counted = len(self.verdicts) - self.count("equivalent")
        return 100 * self.count("killed") / counted if counted else 100.0


def try_mutants(
    geometry: Geometry,
    mutants: Mutants,
    seed: int = 0,
    without: Weakening = WHOLE,
    step: Step = lambda decided, next_one: None,
) -> MutationResult:
    """Run the bench on every mutant, and look whether the survivors are faults at all.

    Raises:
        LiftError: the decoder itself does not pass, or a fault closed a combinational loop.
    """
    found = find_mutants(geometry, mutants, seed, without, step)
    proofs: dict[int, str | None] = {}
    if len(found) < len(mutants.mutants):
        step(0, "reachable states")
        equivalence = Equivalence(mutants.netlist)
        for mutant in mutants.mutants:
            if mutant.number not in found:
                step(0, f"is mutant {mutant.number} one")
                proofs[mutant.number] = equivalence.same(mutant.number)
                step(1, "")
    return MutationResult(
        tuple(Verdict(m, found.get(m.number), proofs.get(m.number)) for m in mutants.mutants)
    )


def find_mutants(
    geometry: Geometry,
    mutants: Mutants,
    seed: int = 0,
    without: Weakening = WHOLE,
    step: Step = lambda decided, next_one: None,
) -> dict[int, Finding]:
    """Take the decoder and all its mutants through every pass; what was found, by number.

    They are simulated at once, a lane each, lane 0 the decoder. Registers begin at random.

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
        step(0, one.name)
        before = len(found)
        alive = [lane for lane in range(count + 1) if lane not in found]
        results = lanes.run(alive, lambda design, one=one: run_pass(design, one))  # type: ignore[misc]
        for lane, result in results.items():
            finding = judge(geometry, one, result, results[0], without)
            if finding is not None:
                found[lane] = finding
        if 0 in found:
            raise LiftError(f"the decoder itself does not pass: {found[0].what}")
        step(len(found) - before, one.name)
    return found


async def run_pass(design: LaneAdapter, one: DecoderPass) -> BenchResult:
    """Reset a lane and take it through a pass."""
    await reset(design)
    if one.broken_off:
        await break_off(design, one.stimulus, one.broken_off)
        await reset(design)
    return await exercise(design, one.stimulus, to_first=True)
