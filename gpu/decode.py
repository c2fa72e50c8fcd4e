"""The decode kernel: packed streams to a matrix of weights, on either axis.

A weight is a look-up: its window's bits, read from two neighbouring words, index the tables that
`gpu.tables` makes of the code, one for most codes, parities included. So neither D, d, L nor the
parities are in the machine code, only how many cells a window has and how many bits a cell.

A program's tile is streams times weights, each weight's place in its group worked out once for all
streams of the tile. The strides of the output say which of the two is the matrix's row; the one
that is 1 is known to the compiler, which lays the stores out along it. Compiled offline and run
under the interpreter; not run on a GPU.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from algo.matrix import Axis
from gpu.job import KernelJob, Work
from gpu.project import narrowed
from gpu.tables import (
    INTEGER_TYPES,
    REAL_TYPES,
    CodeTables,
    code_tables,
    decoded_shape,
    rows_as_int32,
)

BYTE = tl.constexpr(7)  # accumulators are a low digit, -64..63, and 2**7 times a high one, -16..16
NIBBLE = tl.constexpr(4)  # or a multiple of 2**4 of 8 bits and a rest of 4: exact in bfloat16


class Tile(NamedTuple):
    """Streams and weights of one program, and its warps."""

    streams: int
    weights: int
    warps: int


TILE = Tile(streams=32, weights=128, warps=4)


@triton.jit
def window_bits(starts, weight, lifted, group):  # type: ignore[no-untyped-def]
    """First window bit and place in the group of the weights numbered `weight` of a stream."""
    first = weight // group
    place = weight - first * group
    return first * lifted + tl.load(starts + place), place


@triton.jit  # type: ignore[untyped-decorator]
def decode_tile(  # type: ignore[no-untyped-def]
    at,
    bit,
    place,
    cells,
    group,
    turns,
    crossing,
    CELLS: tl.constexpr,
    CELL_BITS: tl.constexpr,
    CROSSING: tl.constexpr,
):
    """int32 accumulators of a tile of weights.

    ``at`` points at the word of each window's first bit; ``bit`` and ``place`` are those of
    `window_bits`, of any shape that broadcasts to that of ``at``.
    """
    low = tl.load(at).to(tl.uint32, bitcast=True).to(tl.uint64)
    high = tl.load(at + 1).to(tl.uint32, bitcast=True).to(tl.uint64)
    window = ((high << 32 | low) >> (bit & 31).to(tl.uint64)).to(tl.uint32)
    entry = place << CELL_BITS
    value = (window & ((1 << CELL_BITS) - 1)).to(tl.int32)
    acc = tl.load(cells + (value | entry)).to(tl.int32)
    if CROSSING:
        turned = tl.load(turns + value)
    for c in tl.static_range(1, CELLS):
        value = ((window >> (c * CELL_BITS)) & ((1 << CELL_BITS) - 1)).to(tl.int32)
        acc += tl.load(cells + ((c * group) << CELL_BITS) + (value | entry)).to(tl.int32)
        if CROSSING:
            turned ^= tl.load(turns + (c << CELL_BITS) + value)
    for c in tl.static_range(CROSSING):
        value = (turned >> (8 * c)) & 255
        acc += tl.load(crossing + ((c * group) << 8) + (value | (place << 8))).to(tl.int32)
    return acc


@triton.jit  # type: ignore[untyped-decorator]
def decode_kernel(  # type: ignore[no-untyped-def]
    words,
    starts,
    cells,
    turns,
    crossing,
    scales,
    out,
    streams,
    first,
    weights,
    lifted,
    group,
    row_words,
    stream_step,
    weight_step,
    plane_step,
    CELLS: tl.constexpr,
    CELL_BITS: tl.constexpr,
    CROSSING: tl.constexpr,
    SCALED: tl.constexpr,
    OUT: tl.constexpr,
    STREAMS: tl.constexpr,
    WEIGHTS: tl.constexpr,
):
    s = tl.program_id(0) * STREAMS + tl.arange(0, STREAMS)
    n = tl.program_id(1) * WEIGHTS + tl.arange(0, WEIGHTS)
    # what is past the end reads the last stream or weight and is not stored
    bit, place = window_bits(starts, first + tl.minimum(n, weights - 1), lifted, group)
    row = tl.minimum(s, streams - 1) * row_words
    acc = decode_tile(
        words + (row[:, None] + (bit >> 5)[None, :]),
        bit[None, :],
        place[None, :],
        cells,
        group,
        turns,
        crossing,
        CELLS,
        CELL_BITS,
        CROSSING,
    )
    to = out + s[:, None] * stream_step + n[None, :] * weight_step
    inside = (s < streams)[:, None] & (n < weights)[None, :]
    element = out.dtype.element_ty
    if SCALED:
        # twelve bits times the eight of a scale are exact in float32
        if OUT:
            scale = tl.load(scales + n, mask=n < weights, other=0.0)[None, :]
        else:
            scale = tl.load(scales + s, mask=s < streams, other=0.0)[:, None]
        tl.store(to, narrowed(acc.to(tl.float32) * scale, element), mask=inside)
    elif element == tl.int8:
        high = (acc + 64) >> BYTE
        tl.store(to, (acc - (high << BYTE)).to(element), mask=inside)
        tl.store(to + plane_step, high.to(element), mask=inside)
    elif element == tl.bfloat16:
        high = ((acc + 8) >> NIBBLE) << NIBBLE
        tl.store(to, (acc - high).to(tl.float32).to(element), mask=inside)
        tl.store(to + plane_step, high.to(tl.float32).to(element), mask=inside)
    else:
        tl.store(to, acc.to(element), mask=inside)


def launch(
    kernel: Any,
    words: torch.Tensor,
    tables: CodeTables,
    dtype: torch.dtype,
    weights: int,
    axis: Axis = "in",
    scales: torch.Tensor | None = None,
    tile: Tile = TILE,
    first: int = 0,
) -> torch.Tensor:
    """Run `kernel` (`decode_kernel` or its interpreted form) on checked arguments.

    Args:
        weights: how many weights of each stream are decoded.
        first: the first of them.

    Returns:
        As `gpu.ops.decode`.
    """
    words = rows_as_int32(words)
    streams = words.shape[0]
    shape = decoded_shape(streams, weights, axis, dtype, scales is not None)
    out = torch.empty(shape, dtype=dtype, device=words.device)
    if not out.numel():
        return out
    along = out.stride()[-2:]
    stream_step, weight_step = along if axis == "in" else along[::-1]
    kernel[(-(-streams // tile.streams), -(-weights // tile.weights))](
        words,
        tables.starts,
        tables.cells,
        tables.turns,
        # a pointer must point somewhere, even if nothing is read through it
        tables.crossing if tables.crossing.numel() else tables.cells,
        tables.starts if scales is None else scales.contiguous(),
        out,
        streams,
        first,
        weights,
        tables.lifted,
        tables.taps.shape[0],
        words.stride(0),
        stream_step,
        weight_step,
        streams * weights,
        CELLS=tables.cells.shape[0],
        CELL_BITS=tables.cell_bits,
        CROSSING=tables.crossing.shape[0],
        SCALED=scales is not None,
        OUT=axis == "out",
        STREAMS=tile.streams,
        WEIGHTS=tile.weights,
        num_warps=tile.warps,
        enable_fp_fusion=False,  # a product is rounded by itself
    )
    return out


# One code of each kind of tables: one cell of 8, 12 and 16 bits, two and three bytes, crossing
# parities. Neither D, d, L nor anything else of a code is in the machine code.
CODES = ("LQ-2/1+6", "LQ-12/5+9", "LQ-2/1+14^16", "LQ-16/8", "LQ-24/10", "LQ-11/5+13^16")
_ELEMENTS = {
    torch.int16: "*i16",
    torch.float16: "*fp16",
    torch.int8: "*i8",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
}


def jobs() -> list[KernelJob]:
    """The decode kernel to int16 for one code of each kind, and to every type for one.

    What follows the look-up does not depend on the code.
    """
    axes: tuple[Axis, ...] = ("in", "out")
    outputs = [
        *((dtype, False) for dtype in INTEGER_TYPES),
        *((dtype, True) for dtype in REAL_TYPES),
    ]
    return [
        decode_job(code, dtype, scaled, axis)
        for code in CODES
        for dtype, scaled in outputs
        for axis in axes
        if dtype == torch.int16 or code == "LQ-12/5+9"
    ]


def decode_job(
    code: str, dtype: torch.dtype, scaled: bool, axis: Axis, tile: Tile = TILE
) -> KernelJob:
    """One kernel to compile; sizes and strides are multiples of 16, as a layer's mostly are."""
    cells, bits, crossing = table_shape(code)
    pointers = {
        "words": "*i32",
        "starts": "*i32",
        "cells": "*i16",
        "turns": "*i32",
        "crossing": "*i16",
        "scales": "*fp32" if scaled else "*i32",
        "out": _ELEMENTS[dtype],
    }
    sizes = ("streams", "first", "weights", "lifted", "group", "row_words", "plane_step")
    long, short = ("stream_step", "weight_step") if axis == "in" else ("weight_step", "stream_step")
    kind = str(dtype).removeprefix("torch.") + ("-real" if scaled else "")
    planes = len(decoded_shape(1, 1, axis, dtype, scaled)) - 1
    stored = dtype.itemsize * planes
    return KernelJob(
        kernel=f"decode-{kind}-{axis}",
        code=code,
        function=decode_kernel,
        signature=pointers | dict.fromkeys((*sizes, long), "i32"),
        constants={
            short: 1,
            "CELLS": cells,
            "CELL_BITS": bits,
            "CROSSING": crossing,
            "SCALED": scaled,
            "OUT": axis == "out",
            "STREAMS": tile.streams,
            "WEIGHTS": tile.weights,
        },
        aligned=(*pointers, "streams", "weights", "plane_step", long),
        options={"num_warps": tile.warps},
        work=Work(
            unit="weight",
            per_trip=tile.streams * tile.weights,
            stored_bytes=tile.streams * tile.weights * stored,
        ),
    )


def table_shape(code: str) -> tuple[int, int, int]:
    """Cells, bits of a cell and bytes of crossing parities of a shipped code."""
    from algo.shipped import load_code

    tables = code_tables(load_code(code))
    return tables.cells.shape[0], tables.cell_bits, tables.crossing.shape[0]
