"""Draws waveforms as SVG."""

from collections.abc import Sequence
from itertools import pairwise

from hw.svg import FAINT, HATCH, INK, RED, TINTS, Drawing, text_width
from sim.waveform import Band, Bus, Panel, Span, Value, Waveform, Wire

PAGE = 1000  # the width that pictures keep to, where their values let them
_SIZE, _SMALL = 11, 10
_MARGIN, _GAP, _ROW, _HEIGHT, _SLOPE = 12, 34, 26, 16, 3
_LEAST_PITCH = 30


def columns(names: Sequence[str], longest: str) -> int:
    """How many cycles fit side by side if a value as long as `longest` has one to itself."""
    return int((PAGE - _names_width(names) - 2 * _MARGIN) // _pitch(longest))


def draw(wave: Waveform) -> str:
    """The picture as SVG."""
    names = [row.name for row in wave.rows] + [wave.clock or ""]
    pitch = max(
        (_pitch(value.text, len(cycles))
         for row in wave.rows if isinstance(row, Bus)
         for panel in wave.panels for run in panel.runs
         for value, cycles in _pieces(row.values, run) if value is not None),
        default=_LEAST_PITCH,
    )  # fmt: skip
    drawing = Drawing(wave.title)
    left = _MARGIN + _names_width(names)
    y = 24.0
    drawing.text(_MARGIN, y, wave.title, 13, bold=True)
    width = _MARGIN + text_width(wave.title, 13)
    for panel in wave.panels:
        places = _Places(panel.runs, left, pitch)
        y = _Panel(drawing, wave, panel, places).draw(y + 12)
        width = max(width, places.end)
    for note in wave.notes:
        y += 16
        drawing.text(_MARGIN, y, note, _SMALL, colour=FAINT)
        width = max(width, _MARGIN + text_width(note, _SMALL))
    drawing.width, drawing.height = width + _MARGIN, y + _MARGIN
    return drawing.render()


def _pitch(text: str, cycles: int = 1) -> float:
    return max(_LEAST_PITCH, (text_width(text, _SIZE) + 11) / cycles)


def _names_width(names: Sequence[str]) -> float:
    return max(text_width(name, _SIZE) for name in names) + 10


def _pieces(values: Sequence[Value | None], run: range) -> list[tuple[Value | None, range]]:
    """The run cut where the value changes; a run without cycles has no pieces."""
    cuts = [c for c in run if c == run.start or values[c] != values[c - 1]]
    return [(values[a], range(a, b)) for a, b in pairwise([*cuts, run.stop])]


class _Places:
    """Where the cycles of a panel are."""

    def __init__(self, runs: Sequence[range], left: float, pitch: float) -> None:
        self._starts: list[tuple[range, float]] = []
        self.pitch = pitch
        for run in runs:
            self._starts.append((run, left))
            left += len(run) * pitch + _GAP
        self.end = left - _GAP

    def edge(self, cycle: int) -> float | None:
        """The edge at which `cycle` begins, None outside; at a gap, the right one of two."""
        for run, x in reversed(self._starts):
            if run.start <= cycle <= run.stop:
                return x + (cycle - run.start) * self.pitch
        return None

    def box(self, run: range, first: int, stop: int) -> tuple[float, float]:
        """The edges between which cycles `first` to `stop` - 1 of a run are."""
        x = next(x for one, x in self._starts if one == run)
        return x + (first - run.start) * self.pitch, x + (stop - run.start) * self.pitch


class _Panel:
    """Draws one panel."""

    def __init__(self, drawing: Drawing, wave: Waveform, panel: Panel, places: _Places) -> None:
        self.drawing, self.wave, self.panel, self.places = drawing, wave, panel, places
        self.runs = panel.runs

    def draw(self, y: float) -> float:
        """From y downwards; returns where it ends."""
        drawing = self.drawing
        if self.panel.title:
            y += 14
            drawing.text(_MARGIN, y, self.panel.title, _SIZE, colour=FAINT, bold=True)
        y += 18
        drawing.text(_MARGIN, y, "cycle", _SMALL, colour=FAINT)
        for run in self.runs:
            for cycle in run:
                first, last = self.places.box(run, cycle, cycle + 1)
                drawing.text(
                    (first + last) / 2, y, str(cycle - self.wave.origin), _SMALL, "middle", FAINT
                )
        spans = [mark for mark in self.wave.marks if isinstance(mark, Span) and self._holds(mark)]
        top = y + 6
        y = top + 24 * bool(spans)
        bottom = y + _ROW * (len(self.wave.rows) + (self.wave.clock is not None))
        labelled = self._bands(y, bottom)
        self._grid(y, bottom)
        for span in spans:
            self._span(span, top, bottom)
        if self.wave.clock is not None:
            self._clock(self.wave.clock, y)
            y += _ROW
        for row in self.wave.rows:
            self._name(row.name, y)
            for run in self.runs:
                if isinstance(row, Bus):
                    self._bus(row, run, y)
                else:
                    self._wire(row, run, y)
            y += _ROW
        self._gaps(top, bottom)
        return bottom + 16 * labelled

    def _holds(self, mark: Span | Band) -> bool:
        return all(any(cycle in run for run in self.runs) for cycle in (mark.first, mark.last))

    def _bands(self, top: float, bottom: float) -> bool:
        """Draw them; tells whether there are any, and so a line of their texts."""
        found = [m for m in self.wave.marks if isinstance(m, Band) and self._holds(m)]
        for band in found:
            left = self.places.edge(band.first) or 0.0
            right = self.places.edge(band.last + 1) or self.places.end
            fill = "#fbe3e1" if band.wrong else "#eef0f3"
            self.drawing.box(left, top, right - left, bottom - top + 2, fill)
            half = text_width(band.text, _SMALL) / 2
            x = max(_MARGIN + half, min((left + right) / 2, self.places.end - half))
            colour = RED if band.wrong else FAINT
            self.drawing.text(x, bottom + 13, band.text, _SMALL, "middle", colour, band.wrong)
        return bool(found)

    def _grid(self, top: float, bottom: float) -> None:
        for run in self.runs:
            for cycle in range(run.start, run.stop + 1):
                x = self.places.box(run, cycle, cycle)[0]
                self.drawing.line([(x, top), (x, bottom)], "#d5dae0", 0.6)

    def _name(self, name: str, y: float) -> None:
        self.drawing.text(_MARGIN, y + _ROW / 2 + 4, name, _SIZE)

    def _clock(self, name: str, y: float) -> None:
        self._name(name, y)
        high, low = _levels(y)
        for run in self.runs:
            points = []
            for cycle in run:
                x, end = self.places.box(run, cycle, cycle + 1)
                middle = (x + end) / 2
                points += [(x, low), (x, high), (middle, high), (middle, low), (end, low)]
            self.drawing.line([*points, (points[-1][0], high)])

    def _wire(self, row: Wire, run: range, y: float) -> None:
        high, low = _levels(y)
        points: list[tuple[float, float]] = []
        for cycle in run:
            x, end = self.places.box(run, cycle, cycle + 1)
            level = row.levels[cycle]
            if level is None:
                self.drawing.box(x, high, end - x, low - high, "#f3c9c6")
                points = self._flush(points)
                continue
            at = high if level else low
            turn = x if not points or points[-1][1] == at else x + _SLOPE
            points += [(turn, at), (end, at)]
        self._flush(points)

    def _flush(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        if points:
            self.drawing.line(points)
        return []

    def _bus(self, row: Bus, run: range, y: float) -> None:
        high, low = _levels(y)
        middle = (high + low) / 2
        for value, cycles in _pieces(row.values, run):
            left, right = self.places.box(run, cycles.start, cycles.stop)
            if value is None:
                self.drawing.box(left, middle - 2, right - left, 4, HATCH)
                continue
            # where the run begins or ends in mid-value its end stays open
            opens = cycles.start == run.start and _same(row.values, cycles.start)
            closes = cycles.stop == run.stop and _same(row.values, cycles.stop)
            begin = [(left, low), (left, high)] if opens else [
                (left + _SLOPE, low), (left, middle), (left + _SLOPE, high)
            ]  # fmt: skip
            end = [(right, high), (right, low)] if closes else [
                (right - _SLOPE, high), (right, middle), (right - _SLOPE, low)
            ]  # fmt: skip
            fill = "#f7d4d1" if value.wrong else TINTS[value.tint % len(TINTS)]
            colour = RED if value.wrong else INK
            self.drawing.shape([*begin, *end], fill, colour)
            self.drawing.text(
                (left + right) / 2, middle + 4, value.text, _SIZE, "middle", colour, value.wrong
            )
        for cycle in run:
            if cycle in row.moved:
                x = self.places.box(run, cycle, cycle + 1)[1]
                diamond = [
                    (x - 3.5, middle),
                    (x, middle - 3.5),
                    (x + 3.5, middle),
                    (x, middle + 3.5),
                ]
                self.drawing.shape(diamond, INK)

    def _gaps(self, top: float, bottom: float) -> None:
        for run in self.runs[:-1]:
            x = self.places.box(run, run.stop, run.stop)[0] + _GAP / 2
            for dot in range(3):
                self.drawing.box(x - 7 + 6 * dot, (top + bottom) / 2, 2, 2, FAINT)

    def _span(self, span: Span, top: float, bottom: float) -> None:
        left = self.places.edge(span.first + 1) or 0.0
        right = self.places.edge(span.last + 1) or 0.0
        for x in (left, right):
            self.drawing.line([(x, top + 2), (x, bottom)], RED, 1, "3 3")
        self.drawing.arrow((left, top + 16), (right, top + 16), RED, both=True)
        x = right + 6
        if x + text_width(span.text, _SMALL) > self.places.end:
            x = left - 6 - text_width(span.text, _SMALL)
        self.drawing.text(x, top + 20, span.text, _SMALL, colour=RED, bold=True)


def _same(values: Sequence[Value | None], cycle: int) -> bool:
    """Whether a value goes on at the beginning of `cycle`."""
    return 0 < cycle < len(values) and values[cycle - 1] == values[cycle]


def _levels(y: float) -> tuple[float, float]:
    high = y + (_ROW - _HEIGHT) / 2
    return high, high + _HEIGHT
