"""How many faults the bench finds: mutants of a decoder, each driven like the decoder itself."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

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

    Mutants that one clock edge proves equivalent are spared the long passes.

    Raises:
        LiftError: the decoder itself does not pass, or a fault closed a combinational loop.
    """
    bench = _Bench(geometry, mutants, seed, without, step)
    passes = decoder_passes(geometry, seed, without)
    proofs: dict[int, str] = {}
    bench.run([one for one in passes if not one.long])
    if bench.alive:
        step(0, "reachable states")
        equivalence = Equivalence(mutants.netlist)
        _prove(bench.alive, equivalence.same_step, proofs, step)
        bench.alive -= proofs.keys()
        if bench.alive:
            bench.run([one for one in passes if one.long])
        _prove(bench.alive, equivalence.same, proofs, step)
    return MutationResult(
        tuple(Verdict(m, bench.found.get(m.number), proofs.get(m.number)) for m in mutants.mutants)
    )


def _prove(
    alive: Iterable[int],
    attempt: Callable[[int], str | None],
    proofs: dict[int, str],
    step: Step,
) -> None:
    for number in sorted(alive):
        step(0, f"whether mutant {number} is one")
        proof = attempt(number)
        if proof is not None:
            proofs[number] = proof
            step(1, proof)


class _Bench:
    """The decoder and all its mutants, simulated at once, a lane each; lane 0 is the decoder.

    Registers have random values before the reset of every pass that has one.

    Attributes:
        alive: mutants to go on with.
        found: what was found, by number.
    """

    def __init__(
        self, geometry: Geometry, mutants: Mutants, seed: int, without: Weakening, step: Step
    ) -> None:
        self._numbers = [0, *(mutant.number for mutant in mutants.mutants)]  # by lane
        self._simulator = NetlistSimulator(mutants.netlist, len(self._numbers), seed)
        self._simulator.set(SELECT, self._numbers)
        self._lanes = Lanes(self._simulator)
        self._geometry, self._without, self._step = geometry, without, step
        self.alive = set(self._numbers[1:])
        self.found: dict[int, Finding] = {}

    def run(self, passes: Iterable[DecoderPass]) -> None:
        """Take the decoder and the mutants that are alive through passes."""
        for one in passes:
            self._step(0, one.name)
            if one.resets and not self._without.resets:
                self._simulator.scramble()
            lanes = [n for n, number in enumerate(self._numbers) if not n or number in self.alive]
            results = self._lanes.run(lanes, partial(run_pass, one=one))
            for lane, result in results.items():
                finding = judge(self._geometry, one, result, results[0], self._without)
                if finding is None:
                    continue
                if not lane:
                    raise LiftError(f"the decoder itself does not pass: {finding.what}")
                self.found[self._numbers[lane]] = finding
                self.alive.remove(self._numbers[lane])
                self._step(1, one.name)


async def run_pass(design: LaneAdapter, one: DecoderPass) -> BenchResult:
    """Reset a lane, where that is wanted, and take it through a pass."""
    if one.resets:
        await reset(design)
    if one.broken_off:
        await break_off(design, one.stimulus, one.broken_off)
        await reset(design)
    return await exercise(design, one.stimulus, to_first=True)
