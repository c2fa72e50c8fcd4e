"""Verifies a decoder that somebody else wrote: any Verilog, through a map of its ports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from algo.code import LiftCode
from algo.errors import LiftError
from algo.files import read_json, write_text
from algo.packing import unpack_bits
from sim.beat_layout import BeatLayout
from sim.bench_wrapper import WRAPPER, WRAPPER_PORTS, check_ports, wrapper
from sim.cocotb_runner import Model, Resets, build, run_passes
from sim.coverage import Coverage, toggled, windows_seen
from sim.design_ports import design_ports
from sim.explain import Term, likenesses, weight_sum
from sim.foreign_passes import NamedPass, foreign_passes, shortened
from sim.mismatch_picture import mismatch_picture
from sim.port_map import PortMap
from sim.result import BenchResult
from sim.trace import load_trace
from sim.vcd import cut_vcd
from sim.vectors import Vectors

_BEFORE, _AFTER = 64, 16  # cycles of waveform around what is wrong
_WAVES, _PICTURE = "waves.vcd", "waves.svg"
_ARGUMENTS = {
    # warnings are their author's affair; delays mean nothing to the bench
    "verilator": ("-Wno-fatal", "-Wno-lint", "--no-timing"),
    "icarus": (),
}


@dataclass(frozen=True)
class Design:
    """Somebody's decoder.

    Attributes:
        sources: Verilog and SystemVerilog files; their folders are searched for included files.
        top: the module to verify.
        ports: the map of its ports.
    """

    sources: tuple[Path, ...]
    top: str
    ports: PortMap

    @property
    def includes(self) -> tuple[Path, ...]:
        """The folders of the sources."""
        return tuple(dict.fromkeys(source.resolve().parent for source in self.sources))


@dataclass(frozen=True)
class Difference:
    """The first wrong weight of a pass, and why it should be another.

    Attributes:
        stream: its number in the pass; `stream_name` says what it consists of.
        weight: number of the weight in its stream; weight `row` of group `group`.
        beat: output beat within the stream; the weight is number `place` of the beat.
        window: the bits of the weight's own window, first bit first.
        terms: of the expected sum.
        looks_like: what could have made the wrong value.
    """

    stream: int
    stream_name: str
    weight: int
    group: int
    row: int
    beat: int
    place: int
    expected: int
    got: int
    window: str
    terms: tuple[Term, ...]
    looks_like: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """One pass and what came of it."""

    name: str
    stalls: str
    streams: int
    result: BenchResult
    difference: Difference | None


@dataclass(frozen=True)
class Verdict:
    """All passes of one design.

    Attributes:
        outcomes: of the passes that ran.
        planned: passes there were to run.
        coverage: of the passes that ran.
        waves: waveform around the first thing that is wrong.
        picture: SVG of the ports around it.
    """

    outcomes: tuple[Outcome, ...]
    planned: int
    coverage: Coverage
    waves: Path | None
    picture: Path | None

    @property
    def passed(self) -> bool:
        """Every pass ran, and every weight and handshake of each was right."""
        return len(self.outcomes) == self.planned and self.first_wrong is None

    @property
    def first_wrong(self) -> Outcome | None:
        """The first pass that found something."""
        return next((one for one in self.outcomes if not one.result.passed), None)


def verify_foreign(
    design: Design,
    code: LiftCode,
    groups: int,
    workdir: Path,
    simulator: str = "verilator",
    seed: int = 0,
    real: Vectors | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Compare every weight a foreign decoder gives with `algo.decode`, under its own protocol.

    Args:
        design: sources, top and port map.
        code: the code it decodes.
        groups: G, groups per stream.
        workdir: keeps the wrapper, builds, logs, vectors, results and the waveform.
        simulator: ``verilator`` or ``icarus``.
        seed: of random streams and stalls.
        real: streams of a checkpoint's layer, sent as well.
        on_stage: told what begins.

    Raises:
        LiftError: the map does not fit code or design, the sources cannot be read or built, or a
            tool is missing.
    """
    _check_sources(design.sources)
    for earlier in (_WAVES, _PICTURE):
        (workdir / earlier).unlink(missing_ok=True)
    layout = BeatLayout(code, groups, design.ports)
    on_stage("reading the design's ports")
    found = design_ports(design.sources, design.includes, design.top)
    check_ports(layout, found, design.top)
    outer = workdir / f"{WRAPPER}.sv"
    write_text(outer, wrapper(layout, found, design.top))
    on_stage(f"building for {simulator}")
    model = _build(design, outer, workdir / simulator, simulator, False)
    passes = foreign_passes(layout, simulator, seed, real)
    reset = design.ports.reset
    resets = Resets(reset.kind if reset else "sync", reset is not None, True)
    on_stage(f"simulating {len(passes)} passes")
    results = run_passes(model, [one.bench for one in passes], resets, name="passes")
    outcomes = tuple(
        Outcome(p.name, p.stalls, len(p.vectors.names), r, _difference(layout, p, r))
        for p, r in zip(passes, results, strict=False)
    )
    ran = passes[: len(results)]
    wrong = next((n for n, result in enumerate(results) if not result.passed), None)
    waves = picture = None
    if wrong is not None:
        on_stage("recording a waveform")
        recorder = _build(design, outer, workdir / f"{simulator}-waves", simulator, True)
        recorded = _recorded(recorder, layout, passes[: wrong + 1], results[wrong], resets)
        if recorded is not None:
            waves = _waveform(recorded, workdir / _WAVES)
            picture = workdir / _PICTURE
            trace = load_trace(recorded.file("trace"))
            write_text(
                picture,
                mismatch_picture(layout, recorded.last, recorded.result, trace, design.top),
            )
    return Verdict(outcomes, len(passes), _coverage(layout, ran), waves, picture)


def _check_sources(sources: Sequence[Path]) -> None:
    for source in sources:
        if not source.is_file():
            raise LiftError(f"{source}: there is no such file")


def _build(design: Design, outer: Path, folder: Path, simulator: str, waves: bool) -> Model:
    return build(
        [*design.sources, outer],
        folder,
        WRAPPER,
        simulator,
        waves,
        WRAPPER_PORTS,
        _ARGUMENTS[simulator],
        design.includes,
    )


def _difference(layout: BeatLayout, one: NamedPass, result: BenchResult) -> Difference | None:
    bad = result.first_mismatch
    if bad is None:
        return None
    code, per_beat = layout.code, layout.ports.output.weights
    bits = unpack_bits(one.vectors.words, layout.groups * code.lifted)[bad.stream]
    weight = bad.beat * per_beat + bad.weight
    group, row = divmod(weight, code.group)
    start = group * code.lifted + code.starts[row]
    window = bits[(start + np.arange(code.window)) % len(bits)]
    return Difference(
        stream=bad.stream,
        stream_name=one.vectors.names[bad.stream],
        weight=weight,
        group=group,
        row=row,
        beat=bad.beat,
        place=bad.weight,
        expected=bad.expected,
        got=bad.got,
        window="".join(map(str, window.tolist())),
        terms=tuple(weight_sum(code, bits, weight)),
        looks_like=tuple(likenesses(code, bits, weight, bad.got, max(per_beat, 2 * code.group))),
    )


def _coverage(layout: BeatLayout, passes: Sequence[NamedPass]) -> Coverage:
    words = [one.vectors.words for one in passes]
    stimuli = [one.bench.stimulus for one in passes]
    return Coverage(
        windows_seen(layout.code, layout.groups, words),
        1 << layout.code.window,
        layout.output_bits,
        toggled((s.expected, s.masks) for s in stimuli),
    )


@dataclass(frozen=True)
class _Recorded:
    """The last of some passes, run again with a waveform, and wrong again."""

    last: NamedPass
    number: int
    result: BenchResult
    dump: Path

    def file(self, part: str) -> Path:
        """The file of that pass that `run_passes` calls `part`."""
        return self.dump.parent / f"{part}-{self.number}.json"


def _recorded(
    model: Model,
    layout: BeatLayout,
    passes: Sequence[NamedPass],
    wrong: BenchResult,
    resets: Resets,
) -> _Recorded | None:
    """Run the last of `passes` again, which is wrong, as far as some streams after the fault.

    Passes before it are run again too where its fault may come of them.
    """
    beats = wrong.beats
    if wrong.first_mismatch is not None:
        bad = wrong.first_mismatch
        beats = bad.stream * layout.beats_out + bad.beat
    last = shortened(passes[-1], layout, beats)
    alone = [[last.bench]] if resets.between else []
    for chosen in [*alone, [*(one.bench for one in passes[:-1]), last.bench]]:
        results = run_passes(model, chosen, resets, waves=True, name="waves")
        found = results[-1]
        if len(results) == len(chosen) and not found.passed and found.waves is not None:
            return _Recorded(last, len(chosen) - 1, found, Path(found.waves))
    return None


def _waveform(recorded: _Recorded, target: Path) -> Path:
    """The part of a VCD around the fault, as `target`; an FST file is left as it is."""
    if recorded.dump.suffix != ".vcd":
        return recorded.dump
    times = read_json(recorded.file("times"))
    step, at = times["steps_per_cycle"], recorded.result.wrong_at or 0
    first = times["began"] + (at - _BEFORE) * step
    cut_vcd(recorded.dump, target, max(0, first), times["began"] + (at + _AFTER) * step)
    recorded.dump.unlink()
    return target
