"""The passes a foreign decoder goes through: streams, stalls, resets."""

from dataclasses import dataclass, replace

import numpy as np

from algo.decode import decode_words
from sim.beat_layout import BeatLayout
from sim.cocotb_runner import Pass
from sim.port_map import Protocol
from sim.stimulus import Stimulus
from sim.vectors import (
    MAX_LISTED_BITS,
    Vectors,
    corner_vectors,
    every_codeword,
    random_vectors,
)

# probabilities at the input and at the output, and the longest stall in cycles
_RANDOM = ((0.25, 0.25), 1)
STALLS: dict[Protocol, dict[str, tuple[tuple[float, float], int]]] = {
    "ready-valid": {
        "none": ((0.0, 0.0), 1),
        "both sides": _RANDOM,
        "input": ((0.5, 0.0), 1),
        "output": ((0.0, 0.5), 1),
        "bursts": ((0.05, 0.05), 40),
    },
    "valid-only": {
        "none": ((0.0, 0.0), 1),
        "input": ((0.5, 0.0), 1),
        "bursts": ((0.05, 0.0), 40),
    },
    "fixed-latency": {"none": ((0.0, 0.0), 1)},
}
# beats in a pass, roughly: what a few seconds of simulation allow
BUDGET = {"verilator": 4_000, "icarus": 250}
_CODEWORD_FACTOR = 20  # of that budget for the pass of every codeword


@dataclass(frozen=True)
class NamedPass:
    """A pass of the bench, its name and the streams it sends."""

    name: str
    stalls: str
    vectors: Vectors
    bench: Pass


def foreign_passes(
    layout: BeatLayout, simulator: str, seed: int, real: Vectors | None = None
) -> list[NamedPass]:
    """Every pass for a decoder; the same arguments give the same passes.

    Args:
        layout: of the decoder's beats.
        simulator: decides how much there is time for.
        seed: of the random streams and stalls.
        real: streams of a checkpoint's layer, sent as well.
    """
    code, groups = layout.code, layout.groups
    budget = BUDGET[simulator]
    beats = max(layout.beats_in, layout.beats_out)
    streams = max(2, budget // beats)
    corners = corner_vectors(code, groups)
    made: list[NamedPass] = []
    patterns = STALLS[layout.ports.protocol]

    def add(name: str, stalls: str, vectors: Vectors, broken_off: int = 0) -> None:
        stimulus = _stimulus(layout, vectors, seed + len(made))
        probabilities, longest = patterns[stalls]
        stimulus = replace(stimulus, stalls=probabilities, longest_stall=longest)
        made.append(NamedPass(name, stalls, vectors, Pass(stimulus, broken_off)))

    for n, stalls in enumerate(patterns):
        vectors = corners + random_vectors(code, groups, streams, seed + n)
        add(f"stalls: {stalls}", stalls, vectors)
    if not code.overlap and code.lifted <= MAX_LISTED_BITS:
        everything = every_codeword(code, groups)
        if len(everything.words) * beats <= _CODEWORD_FACTOR * budget:
            add("every codeword", "none", everything)
    if real is not None:
        add("stored streams", next(iter(patterns)), real)
    if layout.ports.reset is not None:
        calm, busy = "none", list(patterns)[min(1, len(patterns) - 1)]
        beats = layout.beats_in  # after the whole stream, output may be on its way
        ends = {1: calm, max(1, beats // 2): busy, beats: calm, beats + 1: calm}
        for broken_off, stalls in ends.items():
            few = random_vectors(code, groups, 3, seed + broken_off) + corners
            add(f"reset after {broken_off} input beats", stalls, few, broken_off)
    return made


def stored_streams(layout: BeatLayout, simulator: str) -> int:
    """How many streams of a layer there is time for."""
    beats = max(layout.beats_in, layout.beats_out)
    return max(2, _CODEWORD_FACTOR * BUDGET[simulator] // beats)


def _stimulus(layout: BeatLayout, vectors: Vectors, seed: int) -> Stimulus:
    weights = decode_words(vectors.words, layout.groups, layout.code)
    return Stimulus(
        inputs=layout.inputs(vectors.words),
        expected=layout.outputs(weights),
        masks=layout.masks(),
        field=layout.ports.output.weight_bits,
        group=layout.ports.output.weights,  # a mismatch is then placed by its beat alone
        seed=seed,
    )


def shortened(one: NamedPass, layout: BeatLayout, beats: int) -> NamedPass:
    """The pass up to some streams after output beat `beats`; cycle by cycle the same until then."""
    streams = beats // layout.beats_out + 3
    stimulus = one.bench.stimulus
    shorter = replace(
        stimulus,
        inputs=stimulus.inputs[: streams * layout.beats_in],
        expected=stimulus.expected[: streams * layout.beats_out],
    )
    vectors = Vectors(one.vectors.names[:streams], np.array(one.vectors.words[:streams]))
    return replace(one, vectors=vectors, bench=replace(one.bench, stimulus=shorter))
