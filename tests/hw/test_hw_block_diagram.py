"""Block diagrams say what the geometry says, in every shape, without texts over each other."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.shipped import load_code
from hw.architecture import parse_architecture
from hw.block_diagram import decoder_blocks, loadable_blocks
from hw.capacity import Capacity
from hw.geometry import Geometry
from hw.output import SUMS, Output, Scale
from hw.svg import Drawing
from hw.terms import adder_ranks, reads_parities, weight_terms
from tests.architectures import ARCHITECTURES
from tests.cases import SHAPES, least_groups, random_code
from tests.pictures import check_layout, count, texts

OUTPUTS = [
    SUMS,
    Output(8),
    Output(16),
    Output(8, Scale("in", 16, 20)),
    Output(8, Scale("out", 9, 9)),
]


def latency_line(svg: str) -> tuple[list[int], int]:
    """The parts of the latency, and the latency."""
    (line,) = [text for text, *_ in texts(svg) if text.startswith("latency")]
    *parts, total = map(int, re.findall(r"\d+", line.partition(" cycles")[0]))
    return parts, total


@given(
    shape=st.sampled_from(SHAPES),
    architecture=st.sampled_from(ARCHITECTURES),
    lanes=st.integers(1, 8),
    output=st.sampled_from(OUTPUTS),
    seed=st.integers(0, 99),
)
def test_decoders_of_every_shape(shape, architecture, lanes, output, seed):
    code = random_code(*shape, seed=seed)
    geometry = Geometry(code, least_groups(code) + lanes, lanes, architecture, output)
    svg = decoder_blocks(geometry)
    check_layout(svg)
    parts, total = latency_line(svg)
    assert sum(parts) == total == geometry.latency
    widths = [text for text, *_ in texts(svg) if re.fullmatch(r"\d+ bits", text)]
    assert widths.count(f"{geometry.beat_bits} bits") >= 1
    assert widths.count(f"{geometry.payload_bits} bits") >= 1
    assert (count(svg, "window") == 1) == bool(code.overlap)
    assert count(svg, "requantise") == (output.scale is not None)


@pytest.mark.parametrize("text", ["tables:4", "tables:2,levels=2", "tree", "tree,levels=3"])
@pytest.mark.parametrize("shape", [(24, 10, 0, 0), (12, 5, 9, 3), (2, 1, 6, 8), (1, 1, 0, 0)])
def test_every_adder_and_register_is_drawn(shape, text):
    """A tree of n leaves has n - 1 adders; registers are as many levels as the projection's."""
    code, architecture = random_code(*shape), parse_architecture(text)
    leaves = max(len(w.tables) for w in weight_terms(code, architecture.inputs))
    svg = decoder_blocks(Geometry(code, least_groups(code), 1, architecture))
    assert count(svg, "+") == leaves - 1
    bars = re.findall(r'points="[\d.]+,([\d.]+) [\d.]+,([\d.]+)"[^>]* stroke-width="4"', svg)
    assert all(one == two for one, two in bars)
    levels = len({y for y, _ in bars}) - 1  # less that of the legend
    own = architecture.kind == "tables" or not adder_ranks(code, architecture)
    assert levels == adder_ranks(code, architecture) + own + reads_parities(
        code, architecture.inputs
    )


def test_taps_of_zero_are_left_out_and_that_is_said():
    code = load_code("LQ-12/5+9")
    taps = code.taps.copy()
    assert "left out" not in decoder_blocks(Geometry(code, 9))
    svg = decoder_blocks(Geometry(replace(code, taps=np.where(taps > 0, 0, taps)), 9))
    assert "taps of 0 are left out" in svg
    cells = [text for text, *_ in texts(svg) if text.isdigit()]
    most = max(int((row < 0).sum()) for row in taps)
    assert len(cells) == most


@pytest.mark.parametrize(
    "capacity",
    [Capacity(8, 10, 12, 12), Capacity(1, 1, 1), Capacity(32, 64, 32, 32)],
    ids=str,
)
def test_loadable_decoders(capacity):
    svg = loadable_blocks(capacity)
    check_layout(svg)
    parts, total = latency_line(svg)
    assert sum(parts) == total
    assert count(svg, "bus") == 1
    assert (count(svg, "registers") == 2) == bool(capacity.parities)


def test_latency_of_a_loadable_decoder_is_the_predicted_one():
    capacity, code = Capacity(6, 3, 8, 2), random_code(5, 2, 4, 2)
    assert latency_line(loadable_blocks(capacity))[1] == capacity.latency(code, 9)


def test_the_same_geometry_gives_the_same_bytes():
    geometry = Geometry(random_code(12, 5, 9, 2), 9)
    assert decoder_blocks(geometry) == decoder_blocks(replace(geometry))


def test_texts_over_each_other_or_outside_are_seen():
    drawing = Drawing("two texts", 200, 40)
    drawing.text(10, 20, "one")
    drawing.text(60, 20, "two")
    check_layout(drawing.render())
    drawing.text(70, 24, "three")
    with pytest.raises(AssertionError, match="two"):
        check_layout(drawing.render())
    drawing = Drawing("outside", 30, 40)
    drawing.text(10, 20, "<&> it")
    assert texts(drawing.render())[0][0] == "<&> it"
    with pytest.raises(AssertionError, match="it"):
        check_layout(drawing.render())
