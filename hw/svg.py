"""Small drawings as SVG: lines, boxes and text; the same calls give the same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

FONT = "DejaVu Sans Mono, Menlo, Consolas, Liberation Mono, monospace"
INK, FAINT, PAPER = "#1f2933", "#66727f", "#ffffff"
RED = "#b3261e"
# fills light enough for INK on them, and apart from each other to the colour-blind
TINTS = ("#d6e6f7", "#fbe3c4", "#dcefdc", "#e9dcf3")
HATCH = "#e4e7eb"
_ADVANCE = 0.61  # of a letter, in font sizes; the widest of these fonts has 0.602

Point = tuple[float, float]


def text_width(text: str, size: float) -> float:
    """How wide `text` is at most, in pixels."""
    return len(text) * size * _ADVANCE


@dataclass
class Drawing:
    """A picture on an opaque light ground, so that it reads on a dark page too.

    Coordinates are pixels from the upper left corner.

    Attributes:
        title: what a screen reader says.
        width, height: they may be set after drawing, before `render`.
    """

    title: str
    width: float = 0
    height: float = 0
    _parts: list[str] = field(default_factory=list)

    def line(
        self, points: Sequence[Point], colour: str = INK, width: float = 1.2, dash: str = ""
    ) -> None:
        """A line through `points`."""
        more = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<polyline points="{_points(points)}" fill="none" stroke="{colour}" '
            f'stroke-width="{_number(width)}"{more}/>'
        )

    def shape(self, points: Sequence[Point], fill: str, stroke: str = "none") -> None:
        """A closed outline."""
        self._parts.append(
            f'<polygon points="{_points(points)}" fill="{fill}" stroke="{stroke}" '
            f'stroke-width="1.2"/>'
        )

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, stroke: str = "none"
    ) -> None:
        """A rectangle whose upper left corner is at (x, y)."""
        self._parts.append(
            f'<rect x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" '
            f'height="{_number(height)}" fill="{fill}" stroke="{stroke}" stroke-width="1.2"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 11,
        anchor: str = "start",
        colour: str = INK,
        bold: bool = False,
    ) -> None:
        """One line of text on the base line y; `anchor` (start, middle, end) is what x is of it."""
        weight = ' font-weight="bold"' if bold else ""
        self._parts.append(
            f'<text x="{_number(x)}" y="{_number(y)}" font-size="{_number(size)}" '
            f'text-anchor="{anchor}" fill="{colour}"{weight}>{escape(text)}</text>'
        )

    def arrow(
        self, start: Point, end: Point, colour: str = INK, both: bool = False, width: float = 1.2
    ) -> None:
        """A horizontal or vertical line with a head at `end`, and at `start` too with `both`."""
        self.line([start, end], colour, width)
        for tip, tail in ((end, start), (start, end))[: 1 + both]:
            self.shape(_head(tip, tail), colour)

    def render(self) -> str:
        """The whole file."""
        width, height = _number(self.width), _number(self.height)
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                f'viewBox="0 0 {width} {height}" role="img" font-family="{FONT}">',
                f"<title>{escape(self.title)}</title>",
                f'<rect x="0" y="0" width="{width}" height="{height}" fill="{PAPER}" '
                'stroke="none" stroke-width="1.2"/>',
                *self._parts,
                "</svg>\n",
            ]
        )


def _head(tip: Point, tail: Point) -> list[Point]:
    """The triangle of an arrow's head."""
    (x, y), (from_x, from_y) = tip, tail
    if y == from_y:
        back = x - 7 if x > from_x else x + 7
        return [tip, (back, y - 3.5), (back, y + 3.5)]
    back = y - 7 if y > from_y else y + 7
    return [tip, (x - 3.5, back), (x + 3.5, back)]


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def _number(value: float) -> str:
    """At most one decimal, none where it is a zero."""
    return f"{value:.1f}".removesuffix(".0")
