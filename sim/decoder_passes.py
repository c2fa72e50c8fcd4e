"""The passes that one of our decoders goes through, and what each must come to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from hw.geometry import Geometry
from sim.result import BenchResult
from sim.stimulus import Stimulus, decoder_stimulus
from sim.vectors import Vectors, corner_vectors, random_vectors

_LONG = 1500  # output beats of a long pass, and some corners
PATIENCE = 100  # cycles; a decoder that may move does so within a few


@dataclass(frozen=True)
class DecoderPass:
    """A stimulus and what comes before it.

    Attributes:
        name: says what it tries.
        stimulus: without stalls, cycles and latency must be as the geometry predicts.
        broken_off: input beats that are sent and broken off by a reset beforehand.
        long: it takes many cycles, for what is rare.
        resets: whether a reset comes first; without, registers begin at their initial values.
    """

    name: str
    stimulus: Stimulus
    broken_off: int = 0
    long: bool = False
    resets: bool = True


@dataclass(frozen=True)
class Weakening:
    """Checks left out, to show what they are for.

    Attributes:
        stalls: passes with stalls.
        cycles: cycles and latency at full rate.
        resets: anything inside a decoder when it is reset.
    """

    stalls: bool = False
    cycles: bool = False
    resets: bool = False


WHOLE = Weakening()


def decoder_passes(geometry: Geometry, seed: int, without: Weakening = WHOLE) -> list[DecoderPass]:
    """Every pass, the one without a reset first; the same arguments give the same passes.

    Streams of zeros, of ones, with single bits, and random ones, with random bits in the spare
    places of their last beats: at full rate, with stalls, after resets in mid-stream.
    """
    return [
        one
        for one in _passes(geometry, seed)
        if not (without.stalls and one.stimulus.stalls != (0.0, 0.0))
        and not (without.resets and one.broken_off)
    ]


def _passes(geometry: Geometry, seed: int) -> Iterator[DecoderPass]:
    code, groups = geometry.code, geometry.groups
    corners = corner_vectors(code, groups)

    def fresh(streams: int, salt: int) -> Vectors:
        return random_vectors(code, groups, streams, seed + salt)

    def stimulus(
        vectors: Vectors, salt: int, stalls: tuple[float, float] = (0.0, 0.0), longest: int = 1
    ) -> Stimulus:
        made = decoder_stimulus(geometry, vectors.words, seed=seed + salt, stalls=stalls)
        inputs = _spare_bits_random(geometry, made.inputs, seed + salt)
        drain = geometry.latency + 2 * geometry.beats_out
        return replace(made, inputs=inputs, longest_stall=longest, patience=PATIENCE, drain=drain)

    yield DecoderPass("never reset", stimulus(fresh(2, 11), 11), resets=False)
    yield DecoderPass("full rate", stimulus(fresh(3, 0) + corners, 0))
    yield DecoderPass("stalls", stimulus(fresh(3, 1) + corners, 1, (0.3, 0.3)))
    yield DecoderPass("one stream", stimulus(fresh(1, 2), 2))
    ends = sorted({1, 2, geometry.beats_in // 2, geometry.beats_in, geometry.beats_in + 1} - {0})
    for n, beats in enumerate(ends, 7):
        stalls = (0.0, 0.0) if n % 2 else (0.3, 0.3)
        few = fresh(3, n)
        yield DecoderPass(f"reset after {beats} input beats", stimulus(few, n, stalls), beats)
    many = -(-_LONG // geometry.beats_out)
    long = {
        "input stalls": ((0.9, 0.1), 1),
        "output stalls": ((0.1, 0.9), 1),
        "bursts": ((0.05, 0.05), 40),
        # input as slow as output, in beats that may be of many: gaps in every stage
        "starved": ((0.75, 0.1), 4 + 4 * geometry.beats_out // geometry.beats_in),
    }
    for n, (name, (stalls, longest)) in enumerate(long.items(), 3):
        vectors = fresh(many, n) + corners
        yield DecoderPass(name, stimulus(vectors, n, stalls, longest), long=True)


def _spare_bits_random(geometry: Geometry, inputs: Sequence[int], seed: int) -> list[int]:
    random, last = Random(seed), geometry.beats_in - 1
    spare = geometry.beat_bits - geometry.last_beat_bits
    return [
        payload | random.getrandbits(spare) << geometry.last_beat_bits
        if n % geometry.beats_in == last
        else payload
        for n, payload in enumerate(inputs)
    ]


@dataclass(frozen=True)
class Finding:
    """What a bench found wrong.

    Attributes:
        check: ``weights``: a weight differs; ``protocol``: an offer changed or was withdrawn, or a
            beat too many came; ``hang``: nothing moved although it could; ``cycles``: latency or
            cycles are not as predicted.
        pass_name: of the pass that found it.
        what: for people.
    """

    check: str
    pass_name: str
    what: str


def judge(
    geometry: Geometry,
    one: DecoderPass,
    result: BenchResult,
    reference: BenchResult | None = None,
    without: Weakening = WHOLE,
) -> Finding | None:
    """What `result` of a pass says against a decoder; None where all is as it must be.

    Args:
        geometry: of the decoder.
        one: the pass.
        result: of it.
        reference: of the same pass on the design that the decoder was made from; whatever the
            stalls are, every beat moves in the same cycle as there.
        without: checks that are left out.
    """
    if result.mismatches:
        return Finding("weights", one.name, f"first {result.first_mismatch}")
    if result.failure is not None:
        check = "hang" if "no transfer" in result.failure else "protocol"
        return Finding(check, one.name, result.failure)
    if without.cycles:
        return None
    got = _timing(result)
    if one.stimulus.stalls == (0.0, 0.0):
        streams = len(one.stimulus.expected) // geometry.beats_out
        want: dict[str, int | None]
        want = {"latency": geometry.latency, "cycles": geometry.cycles(streams)}
        got = {name: got[name] for name in want}
    elif reference is not None:
        want = _timing(reference)
    else:
        return None
    wrong = [f"{name} {got[name]}, not {want[name]}" for name in want if got[name] != want[name]]
    return Finding("cycles", one.name, "; ".join(wrong)) if wrong else None


def _timing(result: BenchResult) -> dict[str, int | None]:
    waits_in, waits_out = result.waits
    return {
        "latency": result.latency,
        "cycles": result.cycles,
        "waits at the input": waits_in,
        "waits at the output": waits_out,
        "rhythm": result.rhythm,
    }
