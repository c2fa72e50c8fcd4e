"""A picture of the first thing that is wrong: a decoder's ports around it, and what was due."""

import textwrap
from collections.abc import Sequence
from dataclasses import replace

from algo.packing import stream_words
from sim.beat_layout import BeatLayout
from sim.foreign_passes import NamedPass
from sim.result import BenchResult, Mismatch
from sim.trace import Trace
from sim.waveform import Band, Bus, Panel, Value, Waveform, Wire
from sim.waveform_drawing import columns, draw

_BEFORE_SHARE = 0.7  # of the cycles in the picture


def mismatch_picture(
    layout: BeatLayout, one: NamedPass, result: BenchResult, trace: Trace, top: str
) -> str:
    """SVG of the cycles around what is wrong, by the names that the design's ports have.

    Args:
        layout: of the design's beats.
        one: the pass that went wrong.
        result: of it; `wrong_at` is a cycle of `trace`.
        trace: of it.
        top: the design's name.
    """
    return draw(_Fault(layout, one, result, trace).waveform(top))


class _Fault:
    """One pass that went wrong, and the cycles that are known of it."""

    def __init__(
        self, layout: BeatLayout, one: NamedPass, result: BenchResult, trace: Trace
    ) -> None:
        self.layout, self.one, self.result, self.trace = layout, one, result, trace
        self.stimulus = one.bench.stimulus
        self.ports = layout.ports
        self.at = (result.wrong_at or 0) - trace.first
        self.taken = _beats(trace.levels["i_valid"], trace.levels["i_ready"], trace.taken)
        self.given = _beats(trace.levels["o_valid"], trace.levels["o_ready"], trace.given)

    def waveform(self, top: str) -> Waveform:
        rows = self._rows()
        cycles = len(self.trace.levels["i_valid"])
        texts = [v.text for row in rows if isinstance(row, Bus) for v in row.values if v]
        fit = columns([row.name for row in rows], max(texts, key=len, default=""))
        first = max(0, self.at - int(fit * _BEFORE_SHARE))
        shown = range(first, min(cycles, first + fit))
        return Waveform(
            f"{top}: first fault, pass '{self.one.name}'",
            self.ports.clock,
            rows,
            (Panel("", (shown,)),),
            origin=-self.trace.first,
            marks=(Band(self.at, self.at, "wrong", wrong=True),),
            notes=tuple(self._notes()),
        )

    def _rows(self) -> tuple[Wire | Bus, ...]:
        rows: list[Wire | Bus] = []
        for side, ports, values, beats in (
            ("i", self.ports.input, self._sent(), self.taken),
            ("o", self.ports.output, self._received(), self.given),
        ):
            for signal in ("valid", "ready"):
                name = getattr(ports, signal)
                if name is not None:
                    rows.append(Wire(name, self.trace.levels[f"{side}_{signal}"]))
            ready = self.trace.levels[f"{side}_ready"]
            moved = frozenset(n for n, beat in enumerate(beats) if beat is not None and ready[n])
            rows.append(Bus(ports.payload, values, moved))
        bad = self.result.first_mismatch
        if bad is not None:
            if self.ports.output.weights > 1:
                rows.append(Bus(f"weight {bad.weight} got", self._weights(bad.weight, False)))
            rows.append(Bus("expected", self._weights(bad.weight, True)))
        return tuple(rows)

    def _sent(self) -> list[Value | None]:
        """Which words or groups of which stream each input beat has."""
        layout, each = self.layout, self.ports.input.per_beat
        letter, total = "g", layout.groups
        if self.ports.input.carries == "words":
            letter, total = "w", stream_words(layout.groups, layout.code)
        return [
            None if beat is None else _range(letter, beat, layout.beats_in, each, total)
            for beat in self.taken
        ]

    def _received(self) -> list[Value | None]:
        """The weight of each output beat; of several, which ones they are."""
        each, total = self.ports.output.weights, self.layout.groups * self.layout.code.group
        if each == 1:
            return self._weights(0, False)
        found: list[Value | None] = []
        for cycle, beat in enumerate(self.given):
            value = None
            if beat is not None:
                value = _range("n", beat, self.layout.beats_out, each, total)
                value = replace(value, wrong=self._differs(cycle))
            found.append(value)
        return found

    def _weights(self, place: int, expected: bool) -> list[Value | None]:
        """Weight `place` of every output beat that is there, as it came or as it should."""
        found: list[Value | None] = []
        for cycle, beat in enumerate(self.given):
            if beat is None or not self._means(beat, place):
                found.append(None)
                continue
            text = self._text(self._payload(cycle), place)
            due = "none" if self._due(beat) is None else self._text(self._due(beat), place)
            tint = beat // self.layout.beats_out % 2
            value = Value(due, beat, tint) if expected else Value(text, beat, tint, text != due)
            found.append(value)
        return found

    def _payload(self, cycle: int) -> int | None:
        return self.trace.levels["o_payload"][cycle]

    def _due(self, beat: int) -> int | None:
        """The payload that output beat `beat` should have; None where there should be no such."""
        expected = self.stimulus.expected
        return expected[beat] if beat < len(expected) else None

    def _means(self, beat: int, place: int) -> bool:
        """Whether an output beat has a weight there; the last of a stream may have fewer."""
        mask = self.stimulus.masks[beat % len(self.stimulus.masks)]
        return bool(mask >> self.stimulus.field * place & 1)

    def _text(self, payload: int | None, place: int) -> str:
        """A weight of a payload; X where it is unknown."""
        if payload is None:
            return "X"
        width = self.stimulus.field
        bits = payload >> width * place & (1 << width) - 1
        return str(bits - (bits >> width - 1 << width))

    def _differs(self, cycle: int) -> bool:
        """Whether the beat that is there is not the one that is due."""
        beat, payload = self.given[cycle], self._payload(cycle)
        if beat is None:
            return False
        due = self._due(beat)
        if payload is None or due is None:
            return True
        return bool((payload ^ due) & self.stimulus.masks[beat % len(self.stimulus.masks)])

    def _notes(self) -> list[str]:
        notes = []
        bad = self.result.first_mismatch
        if bad is not None:
            notes.append(f"cycle {self.result.wrong_at}: {self._place(bad)}")
            notes.append(f"expected {bad.expected}, got {bad.got}")
        if self.result.failure is not None:
            notes += textwrap.wrap(self.result.failure, 120)
        what = {"words": "w0: word 0 of a stream", "groups": "g0: group 0 of a stream",
                "windows": "g0: group 0 of a stream, with its window"}  # fmt: skip
        several = "; n0: weight 0" if self.ports.output.weights > 1 else ""
        notes.append(f"◆ a beat moves. {what[self.ports.input.carries]}{several}.")
        return notes

    def _place(self, bad: Mismatch) -> str:
        weight = bad.beat * self.ports.output.weights + bad.weight
        name = self.one.vectors.names[bad.stream]
        return (
            f"stream {bad.stream} ({name}), output beat {bad.beat}, weight {weight} of the stream"
        )


def _range(letter: str, beat: int, per_stream: int, each: int, total: int) -> Value:
    """Which of a stream's `total` things a beat carries."""
    stream, number = divmod(beat, per_stream)
    first = number * each
    last = min(first + each, total) - 1
    text = f"{letter}{first}" if first == last else f"{letter}{first}–{last}"
    return Value(text, beat, stream % 2)


def _beats(
    valid: Sequence[int | None], ready: Sequence[int | None], before: int
) -> list[int | None]:
    """The number of the beat that is offered in each cycle; None where there is none."""
    beats: list[int | None] = []
    for is_valid, is_ready in zip(valid, ready, strict=True):
        beats.append(before if is_valid else None)
        before += bool(is_valid and is_ready)
    return beats
