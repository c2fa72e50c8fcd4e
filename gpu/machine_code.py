"""What a kernel's machine code does in its steady loop, and what that is per weight.

The steady loop is the one that holds the work: the most tensor instructions where the kernel has
any, else the most instructions (those of loops inside it not counted) among the loops that load or
store, or that store to global memory where that is said to be the work. Where the work lies outside
of loops, or in several, the whole body is counted instead and said to be so. Counts are of one trip
through every instruction of the loop, whether or not a branch or predicate may skip it. Loops
inside that wait count once, others as often as the job says. Latency and caches are not seen.
"""

from collections import Counter
from fractions import Fraction
from typing import Literal, NamedTuple

from algo.errors import LiftError
from gpu import opcodes
from gpu.control_flow import Code, Instruction, Loop, loops, reachable, successors
from gpu.job import Work

# a second loop with this share of the work of the first makes the kernel one of several loops
_COMPARABLE = 0.6


class Steady(NamedTuple):
    """What of a kernel is counted.

    Attributes:
        loop: it is one loop; else it is the whole body.
        loops: loops in the whole kernel, nested ones too.
        nested: loops inside what is counted that do more than wait.
        own: its instructions outside of those, in order.
        inner: the instructions of those.
    """

    loop: bool
    loops: int
    nested: int
    own: tuple[Instruction, ...]
    inner: tuple[Instruction, ...]


class Counts(NamedTuple):
    """Instructions of one warp in one trip.

    Attributes:
        classes: each of `gpu.opcodes.CLASSES` that occurs, in that order.
        unknown: names counted under ``other``.
        issued: those that take the issue slots a lane-instruction is counted in: all on NVIDIA; on
            AMD not the scalar and control ones, which issue beside the vector ones.
    """

    classes: dict[str, int]
    unknown: tuple[str, ...]
    issued: int


class Trip(NamedTuple):
    """What one trip of the loop in the machine code gets through.

    Attributes:
        units: of the job's unit, summed over the program.
        seen_in: what showed it; ``source`` is the job's word alone.
    """

    units: int
    seen_in: Literal["tensor", "stores", "loads", "source"]


def steady_loop(code: Code, stores: bool = False) -> Steady:
    """Find the loop that does the work.

    Args:
        code: a kernel's machine code.
        stores: the work is stored as it is done, so a loop that stores nothing does not do it.
    """
    edges = successors(code)
    body = reachable(edges)
    outermost = loops(edges)
    found = [loop for outer in outermost for loop in outer.all()]
    tensor = any(_is_tensor(code.instructions[at]) for at in body)

    def work(loop: Loop) -> int:
        # compilers also make loops out of a reduction over the lanes of a warp
        moves = _stores if stores else _touches_memory
        if not tensor and not any(moves(code.instructions[at]) for at in loop.nodes):
            return 0
        return sum(not tensor or _is_tensor(code.instructions[at]) for at in loop.own)

    ranked = sorted(found, key=lambda loop: (-work(loop), len(loop.nodes)))
    best = ranked[0] if ranked and work(ranked[0]) else None
    if best is not None:
        rivals = [loop for loop in ranked[1:] if not loop.nodes & best.nodes]
        if any(work(loop) >= _COMPARABLE * work(best) for loop in rivals):
            best = None
    nodes, nested = (best.nodes, best.inner) if best else (body, outermost)
    inside = [loop for outer in nested for loop in outer.all() if not _waits(code, loop)]
    inner = frozenset[int]().union(*(loop.nodes for loop in inside))
    return Steady(
        best is not None, len(found), len(inside), _take(code, nodes - inner), _take(code, inner)
    )


def _waits(code: Code, loop: Loop) -> bool:
    """Whether a loop polls a barrier or sleeps: it turns once where nobody waits."""
    waiting = ("SYNCS.", "NANOSLEEP", "s_sleep")
    return any(code.instructions[at].opcode.startswith(waiting) for at in loop.own)


def _touches_memory(instruction: Instruction) -> bool:
    return opcodes.classify(instruction.opcode) in ("global", "shared", "atomic")


def _stores(instruction: Instruction) -> bool:
    return opcodes.stored_bytes(instruction.opcode) > 0


def _take(code: Code, nodes: frozenset[int]) -> tuple[Instruction, ...]:
    return tuple(code.instructions[at] for at in sorted(nodes))


def _is_tensor(instruction: Instruction) -> bool:
    return opcodes.classify(instruction.opcode) == "tensor"


def count(steady: Steady, nested_trips: int = 1) -> Counts:
    """Count by class; the loops inside turn `nested_trips` times."""
    totals: Counter[str] = Counter()
    unknown = set()
    for instructions, times in ((steady.own, 1), (steady.inner, nested_trips)):
        for instruction in instructions:
            kind = opcodes.classify(instruction.opcode)
            totals[kind] += times
            if kind == "other":
                unknown.add(instruction.opcode.partition(".")[0])
    amd = any(instruction.opcode[:1].islower() for instruction in steady.own)
    beside = totals["uniform"] + totals["control"] if amd else 0
    classes = {kind: totals[kind] for kind in opcodes.CLASSES if totals[kind]}
    return Counts(classes, tuple(sorted(unknown)), totals.total() - beside)


def trip(steady: Steady, work: Work, warps: int, warp_lanes: int) -> Trip:
    """How much one trip of the machine's loop gets through.

    Args:
        steady: from `steady_loop`.
        work: what the job says of a trip in the source.
        warps: warps of the program.
        warp_lanes: threads in each.

    Raises:
        LiftError: the machine code contradicts `work`.
    """
    every = steady.own + steady.inner * (work.nested_trips or 1)
    if work.columns:
        shares = [opcodes.multiply_accumulates(i.opcode) for i in every if _is_tensor(i)]
        if shares and None not in shares:
            total = sum(share for share in shares if share) * warps
            return Trip(_whole(Fraction(total, work.columns), work, "multiplies"), "tensor")
    lanes = warps * warp_lanes
    if work.stored_bytes:
        stored = sum(opcodes.stored_bytes(i.opcode) for i in every) * lanes
        units = Fraction(stored * work.per_trip, work.stored_bytes)
        return Trip(_whole(units, work, "stores"), "stores")
    if work.loaded_bytes:
        loaded = sum(opcodes.loaded_bytes(i.opcode) for i in every) * lanes
        units = Fraction(loaded * work.per_trip, work.loaded_bytes)
        return Trip(_whole(units, work, "loads"), "loads")
    return Trip(work.per_trip, "source")


def _whole(units: Fraction, work: Work, verb: str) -> int:
    """`units` if they are one or more trips of the source."""
    trips = units / work.per_trip
    if trips.denominator != 1 or trips < 1:
        raise LiftError(
            f"the loop found in the machine code {verb} what {float(trips):g} trips of the source "
            f"would, where a trip gets through {work.per_trip} {work.unit}s; correct the job's Work"
        )
    return int(units)


def lane_instructions(counts: Counts, done: Trip, warps: int, warp_lanes: int) -> float:
    """Lane-instructions issued per unit of the job; times bits per weight, those per weight."""
    return counts.issued * warps * warp_lanes / done.units
