"""What an SVG picture of ours holds, for tests: texts and where they are."""

import xml.etree.ElementTree as ET
from itertools import combinations

from hw.svg import text_width


def texts(svg: str) -> list[tuple[str, float, float, float, float]]:
    """Every text with its left, top, right and lower bound."""
    found = []
    for element in ET.fromstring(svg):
        if not element.tag.endswith("}text"):
            continue
        x, y, size = (float(element.get(key)) for key in ("x", "y", "font-size"))
        # a little less than the widest font takes, so that touching is no overlap
        width = text_width(element.text, size) * 0.98
        left = x - width * {"start": 0, "middle": 0.5, "end": 1}[element.get("text-anchor")]
        found.append((element.text, left, y - 0.75 * size, left + width, y + 0.2 * size))
    return found


def check_layout(svg: str) -> None:
    """No text lies over another or reaches out of the picture."""
    root = ET.fromstring(svg)
    width, height = float(root.get("width")), float(root.get("height"))
    placed = texts(svg)
    for text, left, top, right, bottom in placed:
        assert left >= 0, text
        assert top >= 0, text
        assert right <= width, text
        assert bottom <= height, text
    for one, two in combinations(placed, 2):
        beside = one[3] <= two[1] or two[3] <= one[1]
        above = one[4] <= two[2] or two[4] <= one[2]
        assert beside or above, (one, two)


def count(svg: str, text: str) -> int:
    """How many texts read exactly so."""
    return sum(one[0] == text for one in texts(svg))
