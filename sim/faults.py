"""Seeded faults: a bit flipped in a running decoder, and what becomes of its weights."""

from collections import Counter
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from algo.packing import Bits, pack_bits, unpack_bits
from hw.geometry import Geometry
from hw.netlist import Netlist
from hw.netlist_sim import NetlistSimulator
from sim.bench import exercise
from sim.decoder_passes import PATIENCE
from sim.fault_effects import Effects, Flags, flip_effect, holders, in_flight
from sim.lanes import LaneAdapter, Lanes, reset
from sim.recorder import Recorder
from sim.result import BenchResult
from sim.stimulus import Stimulus, decoder_stimulus
from sim.vectors import random_vectors

KINDS = {
    "stream": "a bit of a stream on its way in",
    "data": "a flip-flop that the streams' bits reach",
    "control": "any other flip-flop",
}
EFFECTS = {
    "none": "every weight right, in the same cycles",
    "late": "every weight right, in other cycles",
    "bounded": "only weights that the bound allows are wrong",
    "protocol": "an offer changed or was withdrawn, or a beat too many came: detected as that",
    "hang": "beats were lost: detected as missing",
    "spread": "weights beyond the bound are wrong: beats are cut, lost or doubled",
}
_STALLS = (0.2, 0.2)


@dataclass(frozen=True)
class Fault:
    """One flipped bit and what came of it.

    Attributes:
        kind: one of `KINDS`.
        where: for people: the bit of the stream, or the flip-flop and the cycle.
        effect: one of `EFFECTS`.
        changed: weights that differ from what they should be.
        bound: weights that may differ, as the code says: those whose window holds the bit, or that
            depend on what was inside the decoder.
        kept: whether the bound was kept: every wrong weight is one that may be, in a ``stream``
            by exactly what the code says; nothing is promised of ``control``.
        recovered: whether a reset made the decoder whole again.
    """

    kind: str
    where: str
    effect: str
    changed: int
    bound: int
    kept: bool
    recovered: bool


@dataclass(frozen=True)
class FaultResult:
    """All faults of one decoder."""

    faults: tuple[Fault, ...]

    @property
    def passed(self) -> bool:
        """Every bound was kept, and a reset always helped."""
        return all(fault.kept and fault.recovered for fault in self.faults)

    def counts(self) -> dict[str, dict[str, int]]:
        """How many faults of each kind had each effect."""
        found = Counter((fault.kind, fault.effect) for fault in self.faults)
        return {kind: {e: found[kind, e] for e in EFFECTS if found[kind, e]} for kind in KINDS}

    def most_changed(self) -> dict[str, tuple[int, int]]:
        """By kind with a bound: the most weights that one fault changed, and its bound."""
        most = {}
        for kind in ("stream", "data"):
            pairs = [(fault.changed, fault.bound) for fault in self.faults if fault.kind == kind]
            most[kind] = max(pairs, default=(0, 0))
        return most


@dataclass(frozen=True)
class _Flip:
    """What one lane does: flip a bit of `stream`, or register `q` after clock edge `cycle`."""

    kind: str
    stream: int = 0
    at: int = 0
    q: int = 0
    cycle: int = 0


def try_faults(
    geometry: Geometry, netlist: Netlist, count: int, seed: int, streams: int = 6
) -> FaultResult:
    """Flip one bit in each of `count` runs of a decoder; kinds take turns.

    Args:
        geometry: of the decoder.
        netlist: of its Verilog.
        count: of faults.
        seed: of faults, streams and stalls.
        streams: sent in every run.
    """
    bits = sent_bits(geometry, seed, streams)
    words = pack_bits(bits)
    clean = replace(
        decoder_stimulus(geometry, words, seed=seed, stalls=_STALLS),
        patience=PATIENCE,
        drain=geometry.latency + 2 * geometry.beats_out,
    )
    flips = _choose(netlist, geometry, clean, count, seed, streams)
    results, recorders, recovered = _simulate(geometry, netlist, clean, flips, seed)
    found = []
    for lane, flip in enumerate(flips, 1):
        wrong = _differences(geometry, clean, recorders[lane])
        allowed = _allowed(geometry, recorders[0], flip, streams)
        effect = _effect(wrong, allowed, results[lane], results[0])
        kept = effect in ("none", "bounded", "protocol") and not (wrong[~allowed]).any()
        if flip.kind == "stream":
            exact = np.zeros_like(wrong)
            exact[flip.stream] = flip_effect(geometry.code, bits[flip.stream], flip.at)
            kept = bool((wrong == exact).all()) and effect in ("none", "bounded")
        found.append(
            Fault(
                flip.kind,
                _describe(netlist, flip),
                effect,
                int(np.count_nonzero(wrong)),
                int(allowed.sum()),
                kept or flip.kind == "control",
                recovered[lane],
            )
        )
    return FaultResult(tuple(found))


def sent_bits(geometry: Geometry, seed: int, streams: int) -> Bits:
    """The streams that `try_faults` sends, uint8 ``(streams, G*D)``."""
    words = random_vectors(geometry.code, geometry.groups, streams, seed).words
    return unpack_bits(words, geometry.stream_bits)


def data_registers(netlist: Netlist) -> frozenset[int]:
    """Registers that the input's payload reaches, over any number of cycles."""
    sources = {
        q: netlist.sources([register.d, register.enable], lambda net: False)
        for q, register in netlist.registers.items()
    }
    reached = set(netlist.inputs["i__payload"])
    while True:
        new = {q for q, found in sources.items() if q not in reached and found & reached}
        if not new:
            return frozenset(reached & netlist.registers.keys())
        reached |= new


def _choose(
    netlist: Netlist, geometry: Geometry, clean: Stimulus, count: int, seed: int, streams: int
) -> list[_Flip]:
    random = Random(seed)
    data = data_registers(netlist)
    registers = {"data": sorted(data), "control": sorted(netlist.registers.keys() - data)}
    simulator = NetlistSimulator(netlist, 1)
    lanes = Lanes(simulator)
    lanes.run([0], lambda design: _program(Recorder(design), design, clean))
    length = lanes.cycle
    flips = []
    for n in range(count):
        kind = list(KINDS)[n % len(KINDS)]
        if kind == "stream":
            at = random.randrange(geometry.stream_bits)
            flips.append(_Flip(kind, stream=random.randrange(streams), at=at))
        else:
            q, cycle = random.choice(registers[kind]), random.randrange(1, length)
            flips.append(_Flip(kind, q=q, cycle=cycle))
    return flips


def _simulate(
    geometry: Geometry, netlist: Netlist, clean: Stimulus, flips: list[_Flip], seed: int
) -> tuple[dict[int, BenchResult], dict[int, Recorder], dict[int, bool]]:
    """Lane 0 without a fault, then a lane for each; and whether a reset helped them."""
    simulator = NetlistSimulator(netlist, len(flips) + 1, seed)
    lanes = Lanes(simulator)
    recorders: dict[int, Recorder] = {}
    stimuli = {0: clean} | {n: _flipped(geometry, clean, f) for n, f in enumerate(flips, 1)}
    due: dict[int, list[tuple[int, int]]] = {}
    for lane, flip in enumerate(flips, 1):
        if flip.kind != "stream":
            due.setdefault(flip.cycle, []).append((lane, flip.q))

    def flip_due() -> None:
        for lane, q in due.get(lanes.cycle, ()):
            simulator.state[q] ^= 1 << lane

    async def program(design: LaneAdapter) -> BenchResult:
        recorders[design.lane] = recorder = Recorder(design)
        return await _program(recorder, design, stimuli[design.lane])

    results = lanes.run(stimuli, program, flip_due)
    again = replace(
        clean,
        inputs=clean.inputs[: geometry.beats_in],
        expected=clean.expected[: geometry.beats_out],
    )
    after = lanes.run(stimuli, lambda design: _program(Recorder(design), design, again))
    good = {lane: replace(result, seconds=0.0) for lane, result in after.items()}
    return results, recorders, {n: r == good[0] and r.passed for n, r in good.items()}


async def _program(recorder: Recorder, design: LaneAdapter, stimulus: Stimulus) -> BenchResult:
    await reset(design, 1)
    return await exercise(recorder, stimulus)


def _flipped(geometry: Geometry, clean: Stimulus, flip: _Flip) -> Stimulus:
    if flip.kind != "stream":
        return clean
    beat, bit = divmod(flip.at, geometry.beat_bits)
    inputs = list(clean.inputs)
    inputs[flip.stream * geometry.beats_in + beat] ^= 1 << bit
    return replace(clean, inputs=inputs)


def _differences(geometry: Geometry, clean: Stimulus, recorder: Recorder) -> Effects:
    """Weights received minus weights expected, ``(streams, G*d)``; 0 for those not received."""
    payloads = [payload for _, payload in recorder.given][: len(clean.expected)]
    per_beat = geometry.lanes * geometry.code.group
    got = _weights(payloads, per_beat, clean.field)
    wrong = np.zeros((len(clean.expected), per_beat), np.int64)
    wrong[: len(payloads)] = got - _weights(clean.expected[: len(payloads)], per_beat, clean.field)
    whole = wrong.reshape(-1, geometry.beats_out * per_beat)
    return whole[:, : geometry.groups * geometry.code.group]


def _weights(payloads: object, per_beat: int, width: int) -> Effects:
    values = [
        [payload >> width * n & (1 << width) - 1 for n in range(per_beat)]
        for payload in payloads  # type: ignore[attr-defined]
    ]
    fields = np.array(values, np.int64).reshape(-1, per_beat)
    signed: Effects = fields - (fields >> width - 1 << width)
    return signed


def _allowed(geometry: Geometry, clean: Recorder, flip: _Flip, streams: int) -> Flags:
    """The weights that the code lets a fault change, ``(streams, G*d)``."""
    code, groups = geometry.code, geometry.groups
    if flip.kind == "stream":
        flags = np.zeros((streams, groups * code.group), np.bool_)
        flags[flip.stream] = holders(code, groups, flip.at)
        return flags
    # edge number `cycle` counts from the reset's; the recorder's cycles from the one after it
    taken = sum(cycle < flip.cycle - 1 for cycle in clean.taken)
    given = sum(cycle < flip.cycle - 1 for cycle, _ in clean.given)
    stream, beat = divmod(given, geometry.beats_out)
    weights = stream * groups * code.group + beat * geometry.lanes * code.group
    stream, beat = divmod(taken, geometry.beats_in)
    brought = stream * geometry.stream_bits + beat * geometry.beat_bits
    # a flip-flop of the gearbox may be the place of a bit that has yet to come
    brought += 2 * geometry.chunk_bits + geometry.beat_bits
    return in_flight(code, groups, streams, weights, brought)


def _effect(wrong: Effects, allowed: Flags, result: BenchResult, without: BenchResult) -> str:
    if result.failure is not None:
        return "hang" if "no transfer" in result.failure else "protocol"
    if wrong.any():
        return "spread" if wrong[~allowed].any() else "bounded"
    return "none" if result.rhythm == without.rhythm else "late"


def _describe(netlist: Netlist, flip: _Flip) -> str:
    if flip.kind == "stream":
        return f"bit {flip.at} of stream {flip.stream}"
    return f"{netlist.name_of(flip.q)} after edge {flip.cycle}"
