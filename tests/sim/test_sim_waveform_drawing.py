"""Waveforms: every value where it is, cells joined and cut as they should be."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.svg import RED
from sim.waveform import Band, Bus, Panel, Span, Value, Waveform, Wire
from sim.waveform_drawing import PAGE, columns, draw
from tests.pictures import check_layout, count, texts

WORDS = st.text("abcdefgh0123456789–", min_size=1, max_size=9)


def picture(rows, runs=(range(8),), marks=(), clock="clk", notes=()):
    return draw(Waveform("some waveform", clock, rows, (Panel("", runs),), 0, marks, notes))


@given(st.data())
def test_no_text_lies_over_another(data):
    values = data.draw(
        st.lists(st.none() | st.builds(Value, WORDS, st.integers(0, 2)), min_size=20, max_size=20)
    )
    levels = data.draw(st.lists(st.sampled_from([0, 1, None]), min_size=20, max_size=20))
    cut = data.draw(st.integers(2, 14))
    gap = data.draw(st.integers(1, 4))
    rows = (Wire("valid", levels), Bus(data.draw(WORDS), values, frozenset({0, 3})))
    last = data.draw(st.integers(cut + gap, 19))
    marks = (Span(0, last, "latency"), Band(cut + gap, last, "a rather long text"))
    check_layout(picture(rows, (range(cut), range(cut + gap, 20)), marks, notes=("a note",)))


def test_values_that_go_on_are_written_once():
    one, two = Value("a", 0), Value("a", 1)
    assert count(picture((Bus("bus", [one, one, two, two, None, one, one, one]),)), "a") == 3
    assert count(picture((Bus("bus", [one] * 8),), (range(3), range(5, 8))), "a") == 2


def test_a_wire_is_high_where_it_is_one():
    svg = picture((Wire("wire", [0, 1, 1, 0, 0, 0, 0, 1]),), clock=None)
    (line,) = re.findall(r'<polyline points="([^"]+)" fill="none" stroke="#1f2933"', svg)
    points = [tuple(map(float, point.split(","))) for point in line.split()]
    high, low = min(y for _, y in points), max(y for _, y in points)
    left, right = points[0][0], points[-1][0]
    pitch = (right - left) / 8

    def level(cycle):
        middle = left + (cycle + 0.5) * pitch
        return next(a[1] for a, b in pairwise(points) if a[0] <= middle <= b[0])

    assert [level(cycle) for cycle in range(8)] == [low, high, high, low, low, low, low, high]


def test_unknown_levels_and_wrong_values_are_red():
    right = picture((Wire("wire", [0] * 8), Bus("bus", [Value("1")] * 8)))
    assert RED not in right
    assert "#f3c9c6" in picture((Wire("wire", [0, None] * 4),))
    assert RED in picture((Bus("bus", [Value("1", wrong=True)] * 8),))


def test_marks_outside_are_left_out():
    svg = picture((Wire("wire", [0] * 8),), (range(4),), (Band(2, 5, "band"), Span(5, 6, "span")))
    assert (count(svg, "band"), count(svg, "span")) == (0, 0)


@pytest.mark.parametrize("longest", ["w0", "g104–111", "-2047"])
def test_as_many_columns_as_said_fit_the_page(longest):
    fit = columns(["o__payload", "clk"], longest)
    values = [Value(longest, n) for n in range(fit)]
    svg = picture((Bus("o__payload", values),), (range(fit),))
    assert PAGE * 0.9 < float(re.search(r'width="([\d.]+)"', svg)[1]) <= PAGE + 1
    assert len([text for text, *_ in texts(svg) if text == longest]) == fit
