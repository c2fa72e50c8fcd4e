"""The timing diagram of a decoder, drawn from a simulation of it that equals the reference."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from algo.activations import requantise
from algo.code import LiftCode
from algo.decode import decode_words
from algo.packing import Words, pack_bits
from hw.beats import input_beats, lane_mask, output_beats
from hw.capacity import Capacity
from hw.decoder import Decoder
from hw.geometry import Geometry
from hw.loadable import LoadableDecoder
from hw.output import ACC_WIDTH, Scale
from sim.record import STALL, Recording, check_output, record
from sim.waveform import Band, Bus, Panel, Span, Value, Waveform, Wire
from sim.waveform_drawing import columns, draw

_STREAMS = 2
_MOST_CYCLES = 4000  # some seconds; of longer streams only the beginning is drawn
_BEYOND = 3  # cycles simulated after the last beat
_STALLED = 2  # the output beat that waits
_MOVES = "◆ a beat moves: rising clock edge, valid and ready high. Cycle 0 takes the first word."
_COLOURS = "Blue: stream 0; orange: stream 1."

Multipliers = npt.NDArray[np.int64]


def decoder_timing(decoder: Decoder) -> str:
    """SVG of a decoder's ports over two streams of random bits, its output stalled once.

    Args:
        decoder: simulated here, so it cannot be used again.

    Raises:
        LiftError: the simulation differs from the reference.
    """
    geometry, scale = decoder.geometry, decoder.geometry.output.scale
    code, width = geometry.code, geometry.output.width
    words = _random_words(code, geometry.groups)
    expected = decode_words(words, geometry.groups, code).astype(np.int64)
    inputs = {"i": input_beats(words, geometry)}
    per_stream = {"i": geometry.beats_in, "o": geometry.beats_out}
    labels = {
        "i": _labels("w", geometry.beat_words, geometry.stream_words),
        "o": _labels("g", geometry.lanes, geometry.groups),
    }
    notes = [
        _MOVES,
        f"w0: word 0 of a stream, 32 bits. g0: group 0, {code.group} x {width} bits. {_COLOURS}",
    ]
    if scale is not None:
        factors = _random_multipliers(geometry, scale)
        expected = _scaled(expected, factors, geometry, scale)
        inputs["scale"] = _scale_beats(factors, geometry, scale)
        per_stream["scale"] = len(inputs["scale"]) // _STREAMS
        labels["scale"] = _labels("m", 1, per_stream["scale"])
        what = "the stream's multiplier" if scale.axis == "in" else "multipliers of output beat 0"
        notes.append(f"m0: {what}, {scale.multiplier_bits} bits each.")
    recording = record(
        decoder,
        inputs,
        min(geometry.cycles(_STREAMS) + STALL + _BEYOND, _MOST_CYCLES),
        min(_STALLED, _STREAMS * geometry.beats_out - 1),
        ["last"] if decoder.mark_last else [],
    )
    masks = [lane_mask(beat, geometry) for beat in range(geometry.beats_out)]
    check_output(recording, output_beats(expected, geometry), masks)
    title = (
        f"{code.name}, {geometry.architecture}: streams of {geometry.groups * code.group} weights, "
        f"groups per beat: {geometry.lanes}"
    )
    return _draw(title, recording, labels, per_stream, notes)


def loadable_timing(capacity: Capacity, code: LiftCode, groups: int) -> str:
    """SVG of a loadable decoder's ports: the writes that load `code`, then two streams.

    Raises:
        LiftError: the code does not fit, or the simulation differs from the reference.
    """
    writes = capacity.writes(code, groups)
    words = _random_words(code, groups)
    geometry = Geometry(code, groups)
    weights = groups * code.group
    inputs = {
        "bus": [address << 32 | value for address, value in writes],
        "i": input_beats(words, geometry),
    }
    labels = {
        "bus": [Value(f"{at:x}={value:x}", n, 2) for n, (at, value) in enumerate(writes)],
        "i": _labels("w", 1, geometry.stream_words),
        "o": _labels("n", 1, weights),
    }
    cycles = capacity.cycles(code, groups, _STREAMS) + STALL + _BEYOND
    recording = record(
        LoadableDecoder(capacity), inputs, len(writes) + min(cycles, _MOST_CYCLES), _STALLED
    )
    mask = (1 << ACC_WIDTH) - 1
    sums = [int(acc) & mask for acc in decode_words(words, groups, code).ravel()]
    check_output(recording, sums, [mask])
    notes = [
        _MOVES,
        f"1000=d6: address and value, hexadecimal; {len(writes)} writes load the code, words wait.",
        f"w0: word 0 of a stream, 32 bits. n0: weight 0, {ACC_WIDTH} bits. {_COLOURS}",
    ]
    per_stream = {"bus": len(writes), "i": geometry.stream_words, "o": weights}
    title = f"loadable decoder, {code.name}: streams of {weights} weights"
    return _draw(title, recording, labels, per_stream, notes)


def _random_words(code: LiftCode, groups: int) -> Words:
    bits = np.random.default_rng(0).integers(0, 2, (_STREAMS, groups * code.lifted), np.uint8)
    return pack_bits(bits)


def _random_multipliers(geometry: Geometry, scale: Scale) -> Multipliers:
    """int64 ``(streams, 1 or weights)``: one per stream on axis ``in``, else one per weight."""
    count = 1 if scale.axis == "in" else geometry.groups * geometry.code.group
    most = 1 << scale.multiplier_bits
    return np.random.default_rng(1).integers(0, most, (_STREAMS, count), np.int64)


def _scaled(
    sums: Multipliers, factors: Multipliers, geometry: Geometry, scale: Scale
) -> Multipliers:
    every = np.broadcast_to(factors, sums.shape)
    done = [
        requantise(np.array([acc]), int(factor), scale.shift, geometry.output.width)[0]
        for acc, factor in zip(sums.ravel(), every.ravel(), strict=True)
    ]
    return np.array(done).reshape(sums.shape)


def _scale_beats(factors: Multipliers, geometry: Geometry, scale: Scale) -> list[int]:
    if scale.axis == "in":
        return [int(factor) for factor in factors.ravel()]
    per_beat = geometry.lanes * geometry.code.group
    beats = []
    for row in factors.tolist():
        for at in range(0, len(row), per_beat):
            fields = enumerate(row[at : at + per_beat])
            beats.append(sum(factor << scale.multiplier_bits * n for n, factor in fields))
    return beats


def _labels(letter: str, per_beat: int, total: int) -> list[Value]:
    """The beats of two streams: which of `total` things per stream each carries."""
    found = []
    for stream in range(_STREAMS):
        for first in range(0, total, per_beat):
            last = min(first + per_beat, total) - 1
            text = f"{letter}{first}" if first == last else f"{letter}{first}–{last}"
            found.append(Value(text, first, stream))
    return found


def _draw(
    title: str,
    recording: Recording,
    labels: dict[str, list[Value]],
    per_stream: dict[str, int],
    notes: Sequence[str],
) -> str:
    order = [name for name in ("bus", "scale", "i", "o") if name in labels]
    rows: list[Wire | Bus] = []
    for name in order:
        rows += [Wire(f"{name}__{p}", recording.levels[f"{name}__{p}"]) for p in ("valid", "ready")]
        values = [None if n is None else labels[name][n] for n in recording.beats[name]]
        rows.append(Bus(f"{name}__payload", values, frozenset(recording.moved(name))))
    if "last" in recording.levels:
        rows.append(Wire("last", recording.levels["last"]))
    longest = max((value.text for name in order for value in labels[name]), key=len)
    fit = columns([row.name for row in rows], longest)
    taken, given = recording.moved("i"), recording.moved("o")
    held = [
        cycle
        for cycle, (valid, ready) in enumerate(
            zip(recording.levels["o__valid"], recording.levels["o__ready"], strict=True)
        )
        if valid and not ready
    ]
    return draw(
        Waveform(
            title,
            "clk",
            tuple(rows),
            tuple(_panels(recording, per_stream, fit)),
            origin=taken[0],
            marks=(
                Span(taken[0], given[0], f"latency {given[0] - taken[0]} cycles"),
                Band(held[0], held[-1], "output stalls"),
            ),
            notes=tuple(notes),
        )
    )


def _panels(recording: Recording, per_stream: dict[str, int], fit: int) -> list[Panel]:
    taken, given = recording.moved("i"), recording.moved("o")
    cycles = len(recording.levels["o__valid"])
    panels = []
    if "bus" in per_stream:
        written = recording.moved("bus")
        around = [range(5), range(written[-1] - 2, taken[0] + 2)]
        panels.append(Panel("the bus loads a code", fitted(around, fit, cycles)))
    stalled = given[min(_STALLED, len(given) - 1)]
    around = [
        range(taken[0] - 1, taken[0] + 2),
        range(given[0] - 1, given[0] + 2),
        range(stalled - STALL - 1, stalled + 2),
    ]
    panels.append(Panel("the first beats", fitted(around, fit, cycles)))
    if len(taken) > per_stream["i"] and len(given) > per_stream["o"]:
        begins, leaves = taken[per_stream["i"]], given[per_stream["o"]]
        ends = given[per_stream["o"] - 1]
        around = [
            range(begins - 2, begins + 1), range(ends - 1, ends + 2), range(leaves - 1, leaves + 2)
        ]  # fmt: skip
        seen = {cycle for panel in panels for run in panel.runs for cycle in run}
        if not seen.issuperset((begins, ends, leaves)):
            runs = fitted(around, fit, cycles)
            panels.append(Panel("stream 1 follows stream 0", runs))
    return panels


def fitted(around: Sequence[range], fit: int, cycles: int) -> tuple[range, ...]:
    """Runs that hold the cycles of `around` which there are, longer where `fit` cycles have room.

    Runs with less than three cycles between them become one. They grow at their ends, in turn.
    """
    runs = _joined([range(max(r.start, 0), min(r.stop, cycles)) for r in around])
    grown = True
    while grown and sum(map(len, runs)) + len(runs) - 1 < fit:
        grown = False
        for n, run in enumerate(runs):
            if run.stop < cycles and sum(map(len, runs)) + len(runs) - 1 < fit:
                runs[n], grown = range(run.start, run.stop + 1), True
        runs = _joined(runs)
    return tuple(runs)


def _joined(runs: Sequence[range]) -> list[range]:
    joined: list[range] = []
    for run in sorted(runs, key=lambda r: r.start):
        if joined and run.start - joined[-1].stop < 3:
            joined[-1] = range(joined[-1].start, max(joined[-1].stop, run.stop))
        else:
            joined.append(run)
    return joined
