"""Block diagrams of decoders as SVG, drawn from their geometry: stages, widths, latencies."""

from collections.abc import Sequence
from dataclasses import dataclass

from algo.packing import WORD
from hw.capacity import Capacity
from hw.geometry import Geometry
from hw.loadable import ADDRESS_BITS
from hw.output import ACC_WIDTH
from hw.svg import FAINT, RED, TINTS, Drawing, text_width
from hw.terms import projection_stages
from hw.tree_diagram import draw_sum

_MARGIN = 12
_BOX, _HEIGHT, _WIRE = 158, 112, 80
_SIZE, _SMALL = 11, 10
_TAP_BITS, _TERM_BITS = 8, 9  # the negative of -128 takes one more


@dataclass(frozen=True)
class _Block:
    """A stage: its name, what it does, and the clock edges it adds to the latency."""

    name: str
    lines: Sequence[str]
    cycles: int
    tint: int


@dataclass(frozen=True)
class _Stream:
    """What flows between two stages: the width, and what it is."""

    bits: int
    what: str
    port: str = ""


def decoder_blocks(geometry: Geometry) -> str:
    """SVG of a decoder: its stages, and the sum behind the weight that has most terms."""
    code, lanes = geometry.code, geometry.lanes
    streams = [_Stream(geometry.beat_bits, _many(geometry.beat_words, "word"), "i")]
    blocks = [
        _Block(
            "gearbox",
            [
                f"{geometry.beats_in} beats in and", f"{geometry.beats_out} chunks out",
                "per stream",
            ],
            1,
            0,
        )
    ]  # fmt: skip
    streams.append(_Stream(geometry.chunk_bits, _many(lanes, "group")))
    if code.overlap:
        blocks.append(
            _Block(
                "window",
                [
                    f"a chunk and the {code.overlap}", "bits behind it; the", "stream's first ones",
                    "again at its end",
                ],
                min(geometry.lookahead + 1, geometry.beats_out),
                1,
            )
        )  # fmt: skip
        streams.append(_Stream(geometry.window_bits, _many(lanes, "window")))
    blocks.append(_projection(geometry))
    sums = lanes * code.group
    output = geometry.output
    if output.width == ACC_WIDTH and output.scale is None:
        streams.append(_Stream(geometry.payload_bits, _many(sums, "weight"), "o"))
    else:
        streams.append(_Stream(geometry.sums_bits, _many(sums, "sum")))
        blocks.append(_last_stage(geometry))
        streams.append(_Stream(geometry.payload_bits, _many(sums, "weight"), "o"))
    title = f"{code.name}, {geometry.architecture}: decoder of streams of {geometry.groups} groups"
    drawing = Drawing(title)
    drawing.text(_MARGIN, 24, title, 13, bold=True)
    y = 44.0
    if output.scale is not None:
        y += 40
    places = _chain(drawing, y, streams, blocks)
    if output.scale is not None:
        x = places[-1] + _BOX / 2
        drawing.arrow((x, y - 34), (x, y))
        drawing.text(x - 6, y - 22, "scale", _SIZE, "end", bold=True)
        drawing.text(x + 6, y - 22, f"{geometry.scale_bits} bits", _SMALL)
    cycles = geometry.architecture.cycles
    parts = " + ".join(str(block.cycles) for block in blocks)
    total = f"{parts} = " if len(blocks) > 1 else ""
    y += _HEIGHT + 24
    drawing.text(
        _MARGIN,
        y,
        f"latency {total}{geometry.latency} cycles; one beat of {_many(sums, 'weight')} "
        + ("per cycle" if cycles == 1 else f"in {cycles} cycles"),
        _SIZE,
        colour=RED,
        bold=True,
    )
    width, y = draw_sum(drawing, geometry, _MARGIN, y + 34)
    wires = len(streams) * _WIRE + len(blocks) * _BOX
    drawing.width = max(wires + 2 * _MARGIN, width, text_width(title, 13) + 2 * _MARGIN)
    drawing.height = y + _MARGIN
    return drawing.render()


def _projection(geometry: Geometry) -> _Block:
    architecture = geometry.architecture
    sums = geometry.lanes * geometry.code.group
    kind = {
        "tables": f"tables of {architecture.inputs} features",
        "tree": "plus or minus a tap",
        "shared": f"in {architecture.cycles} steps, tables",
    }[architecture.kind]
    lines = [
        _many(sums, "sum") + (" from" if sums == 1 else ", each from"),
        kind,
        "and an adder tree",
    ]
    if geometry.queued:
        lines.append(f"a queue of {geometry.queue_beats} beats")
    stages = projection_stages(geometry.code, architecture) + geometry.queued
    return _Block("projection", lines, stages, 2)


def _last_stage(geometry: Geometry) -> _Block:
    output = geometry.output
    if output.scale is not None:
        lines = [
            f"x multiplier of {output.scale.multiplier_bits} bits",
            f">> {output.scale.shift}, rounded,",
            f"saturated to {output.width} bits",
        ]
        return _Block("requantise", lines, output.stages, 3)
    how = "saturated" if output.width < ACC_WIDTH else "sign-extended"
    return _Block("resize", [how, f"to {output.width} bits"], output.stages, 3)


def loadable_blocks(capacity: Capacity) -> str:
    """SVG of a loadable decoder: its stages, and what the bus writes for each."""
    features, levels = capacity.features, capacity.stages - 2
    buffered = [f"up to {capacity.window} bits,", f"moved by up to {capacity.lifted}"]
    signs = [f"{_many(capacity.window, 'bit')}, registered"]
    if capacity.parities:
        signs.append(f"and {_many(capacity.parities, 'parity', 'parities')}")
    taps = [f"{_many(features, 'tap')} or their", "negatives, registered"]
    blocks = [
        _Block("window buffer", [*buffered, "from weight to weight"], 1, 0),
        _Block("features", signs, 1, 1),
        _Block("signed taps", taps, 1, 2),
        _Block("adder tree", [f"{_many(levels, 'level')},", "each registered"], levels, 3),
    ]
    streams = [
        _Stream(WORD, "1 word", "i"),
        _Stream(capacity.window, "1 window"),
        _Stream(features, _many(features, "sign")),
        _Stream(features * _TERM_BITS, _many(features, "term")),
        _Stream(ACC_WIDTH, "1 weight", "o"),
    ]
    title = (
        f"loadable decoder: shifts to {capacity.lifted}, groups to {capacity.group}, windows to "
        f"{capacity.window}, parities to {capacity.parities}"
    )
    drawing = Drawing(title)
    drawing.text(_MARGIN, 24, title, 13, bold=True)
    places = _chain(drawing, 44, streams, blocks)
    y = 44.0 + _HEIGHT
    stored = [
        ("registers", ["bits, weights,", "window, overlap,", f"{_many(capacity.group, 'shift')}"]),
        ("registers", [_many(capacity.parities, "mask")] if capacity.parities else []),
        ("memory", [f"{capacity.group} x {features} taps", f"of {_TAP_BITS} bits"]),
    ]
    y += 40
    for x, (name, lines) in zip(places, stored, strict=False):
        if not lines:
            continue
        drawing.arrow((x + _BOX / 2, y), (x + _BOX / 2, y - 40))
        drawing.box(x, y, _BOX, 76, "#f4f5f7", FAINT)
        drawing.text(x + _BOX / 2, y + 18, name, _SIZE, "middle", bold=True)
        for n, line in enumerate(lines):
            drawing.text(x + _BOX / 2, y + 34 + 14 * n, line, _SMALL, "middle")
        drawing.arrow((x + _BOX / 2, y + 106), (x + _BOX / 2, y + 76))
    y += 106
    drawing.line([(_MARGIN, y), (places[2] + _BOX / 2, y)], width=2)
    drawing.text(_MARGIN, y - 8, "bus", _SIZE, bold=True)
    text = (
        f"{ADDRESS_BITS + WORD} bits: value {WORD}, address {ADDRESS_BITS}; taken between streams"
    )
    drawing.text(_MARGIN, y + 18, text, _SMALL)
    y += 42
    parts = " + ".join(str(block.cycles) for block in blocks)
    latency = f"latency {parts} = {1 + capacity.stages} cycles"
    drawing.text(
        _MARGIN, y, f"{latency}; one weight per cycle within a stream", _SIZE, colour=RED, bold=True
    )
    drawing.width = len(streams) * _WIRE + len(blocks) * _BOX + 2 * _MARGIN
    drawing.height = y + _MARGIN
    return drawing.render()


def _chain(
    drawing: Drawing, y: float, streams: Sequence[_Stream], blocks: Sequence[_Block]
) -> list[float]:
    """Streams and blocks in turn, from left to right; returns the left edges of the blocks."""
    x = float(_MARGIN)
    places = []
    middle = y + _HEIGHT / 2
    for n, stream in enumerate(streams):
        drawing.arrow((x, middle), (x + _WIRE, middle), width=2)
        drawing.text(x + _WIRE / 2 - 3, middle - 8, f"{stream.bits} bits", _SMALL, "middle")
        drawing.text(x + _WIRE / 2 - 3, middle + 18, stream.what, _SMALL, "middle", FAINT)
        if stream.port:
            drawing.text(x + _WIRE / 2 - 3, middle - 26, stream.port, 13, "middle", bold=True)
        x += _WIRE
        if n == len(blocks):
            break
        block = blocks[n]
        places.append(x)
        drawing.box(x, y, _BOX, _HEIGHT, TINTS[block.tint], "#66727f")
        drawing.text(x + _BOX / 2, y + 20, block.name, 12, "middle", bold=True)
        for k, line in enumerate(block.lines):
            drawing.text(x + _BOX / 2, y + 40 + 14 * k, line, _SMALL, "middle")
        drawing.text(
            x + _BOX / 2, y + _HEIGHT - 8, _many(block.cycles, "cycle"), _SMALL, "middle", RED, True
        )
        x += _BOX
    return places


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"
