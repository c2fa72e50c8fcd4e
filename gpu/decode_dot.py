"""Decode and multiply: a tile of weights is decoded into registers and meets up to 64 columns.

For batches too large for the one-bit product and too small for a dense one, and for codes with
parities at any batch. Everything is an integer: a weight is a low digit, -64..63, and 128 times a
high one, -16..16, both int8. Each is multiplied by the activations' int8 digits into an int32
accumulator of its own (`gpu.weights.MAX_DECODED_INNER` bounds both); they are put together in
int64. So sums are `algo.activations.integer_product`, and outputs are rounded once.
`gpu.decode_dot_float` is the same for floating-point activations. Compiled offline and run under
the interpreter; not run on a GPU.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from algo.errors import LiftError
from algo.matrix import Axis
from gpu.decode import BYTE, CODES, decode_tile, table_shape, window_bits
from gpu.interpret import Run
from gpu.job import KernelJob, Work
from gpu.planes import Digits
from gpu.project import finished, narrowed
from gpu.weights import PackedWeights, check_digits


class Tile(NamedTuple):
    """Rows, columns and inputs per step of one program, its warps and pipeline stages."""

    rows: int
    columns: int
    inner: int
    warps: int
    stages: int


TILES = tuple(Tile(rows=64, columns=n, inner=64, warps=4, stages=2) for n in (16, 32, 64))


@triton.jit  # type: ignore[untyped-decorator]
def matrix_tile(  # type: ignore[no-untyped-def]
    words,
    starts,
    cells,
    turns,
    crossing,
    row,
    column,
    lifted,
    group,
    row_words,
    CELLS: tl.constexpr,
    CELL_BITS: tl.constexpr,
    CROSSING: tl.constexpr,
    OUT: tl.constexpr,
):
    """int32 accumulators of the matrix at ``row`` times ``column``, streams along `OUT` or not."""
    if OUT:
        stream, weight = column, row
    else:
        stream, weight = row, column
    bit, place = window_bits(starts, weight, lifted, group)
    acc = decode_tile(
        words + ((stream * row_words)[:, None] + (bit >> 5)[None, :]),
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
    if OUT:
        acc = tl.trans(acc)
    return acc


@triton.jit  # type: ignore[untyped-decorator]
def decode_dot_kernel(  # type: ignore[no-untyped-def]
    words,
    starts,
    cells,
    turns,
    crossing,
    planes,
    steps,
    scales,
    bias,
    out,
    rows,
    columns,
    inner,
    lifted,
    group,
    row_words,
    column_step,
    plane_step,
    out_step,
    CELLS: tl.constexpr,
    CELL_BITS: tl.constexpr,
    CROSSING: tl.constexpr,
    OUT: tl.constexpr,
    PER_TOKEN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
):
    BYTES: tl.constexpr = INNER // 8
    TOKENS: tl.constexpr = COLUMNS // PER_TOKEN
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    q = tl.arange(0, INNER)
    # rows and columns past the end are computed from the last one, and not stored
    row = tl.minimum(r, rows - 1)
    column = tl.minimum(n, columns - 1)
    # a step's inputs are in the order of the planes, bytes next to each other
    order = 8 * (q % BYTES) + q // BYTES
    x_at = planes + ((q // BYTES) * plane_step + q % BYTES)[:, None] + column[None, :] * column_step
    low = tl.full((ROWS, COLUMNS), 0, tl.int32)
    high = tl.full((ROWS, COLUMNS), 0, tl.int32)
    for first in range(0, inner, INNER):
        # digits past the end are zeros; which weight they meet does not matter
        known = tl.minimum(first + order, inner - 1)
        acc = matrix_tile(
            words,
            starts,
            cells,
            turns,
            crossing,
            row,
            known,
            lifted,
            group,
            row_words,
            CELLS,
            CELL_BITS,
            CROSSING,
            OUT,
        )
        u = tl.load(x_at + first // 8)
        upper = (acc + 64) >> BYTE
        low = tl.dot((acc - (upper << BYTE)).to(tl.int8), u, acc=low)
        high = tl.dot(upper.to(tl.int8), u, acc=high)
    combined = low.to(tl.int64) + (high.to(tl.int64) << BYTE)
    if PER_TOKEN == 2:
        even, odd = tl.split(tl.reshape(combined, (ROWS, TOKENS, 2)))
        combined = even + (odd << BYTE)
    tokens = columns // PER_TOKEN
    t = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    to = out + t[None, :] * out_step + r[:, None]
    inside = (r < rows)[:, None] & (t < tokens)[None, :]
    element = out.dtype.element_ty
    if element == tl.int64:
        tl.store(to, combined, mask=inside)
    else:
        step = tl.load(steps + t, mask=t < tokens, other=0.0)
        y = finished(combined, tl.load(scales + row), step, tl.load(bias + row))
        tl.store(to, narrowed(y, element), mask=inside)


def tile_for(columns: int) -> Tile:
    """The tile for a product with `columns` columns."""
    return next((tile for tile in TILES if columns <= tile.columns), TILES[-1])


def launch_digits(
    run: Run,
    weights: PackedWeights,
    digits: Digits,
    dtype: torch.dtype,
    tile: Tile | None = None,
) -> torch.Tensor:
    """The integer layer, exact.

    Args:
        run: what makes a launchable form of the kernel.
        weights: the layer.
        digits: of its whitened inputs, one (a8) or two (a15) per token.
        dtype: float32, float16 or bfloat16; int64 for the sums themselves, without scale or bias.
        tile: `tile_for` the columns by default.

    Returns:
        ``(tokens, rows)`` of `dtype`.

    Raises:
        LiftError: a shape, dtype or device does not fit.
    """
    columns = check_digits(weights, digits, dtype)
    tile = tile_for(columns) if tile is None else tile
    if digits.planes.shape[2] % (tile.inner // 8):
        raise LiftError(
            f"planes of {digits.planes.shape[2]} bytes are no multiple of the {tile.inner // 8} of "
            "a step; lay them out in whole tiles"
        )
    planes = digits.planes.contiguous()
    out = planes.new_empty((columns // digits.per_token, weights.rows), dtype=dtype)
    if columns:
        run(decode_dot_kernel)[(-(-weights.rows // tile.rows), -(-columns // tile.columns))](
            *table_pointers(weights),
            planes,
            digits.step.contiguous(),
            weights.scales,
            weights.bias,
            out,
            weights.rows,
            columns,
            weights.columns,
            weights.tables.lifted,
            weights.tables.taps.shape[0],
            weights.words.stride(0),
            planes.stride(1),
            planes.stride(0),
            out.stride(0),
            PER_TOKEN=digits.per_token,
            **constants_of(weights, tile),
        )
    return out


def table_pointers(weights: PackedWeights) -> tuple[torch.Tensor, ...]:
    """What `matrix_tile` reads through: its first five arguments."""
    tables = weights.tables
    # a pointer must point somewhere, even if nothing is read through it
    crossing = tables.crossing if tables.crossing.numel() else tables.cells
    return weights.words, tables.starts, tables.cells, tables.turns, crossing


def constants_of(weights: PackedWeights, tile: Tile) -> dict[str, Any]:
    """Constants of both kernels and the options they are compiled with."""
    tables = weights.tables
    return {
        "CELLS": tables.cells.shape[0],
        "CELL_BITS": tables.cell_bits,
        "CROSSING": tables.crossing.shape[0],
        "OUT": weights.axis == "out",
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "INNER": tile.inner,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
        "enable_fp_fusion": False,  # the rounding depends on it
    }


def jobs() -> list[KernelJob]:
    """Decode and multiply in all tiles for one code, and in the widest for one of each kind."""
    axes: tuple[Axis, ...] = ("in", "out")
    return [
        decode_dot_job(code, per_token, axis, tile)
        for code in CODES
        for per_token in (1, 2)
        for axis in axes
        for tile in TILES
        if code == "LQ-12/5+9" or (per_token == 1 and tile == TILES[-1])
    ]


def decode_dot_job(code: str, per_token: int, axis: Axis, tile: Tile) -> KernelJob:
    """One kernel to compile; sizes and strides are multiples of 16, as a layer's mostly are."""
    pointers = {
        "planes": "*i8",
        "steps": "*fp32",
        "scales": "*fp32",
        "bias": "*fp32",
        "out": "*bf16",
    }
    return KernelJob(
        kernel=f"decode_dot-a{8 if per_token == 1 else 15}-{axis}-{tile.columns}",
        function=decode_dot_kernel,
        work=Work(unit="weight", per_trip=tile.rows * tile.inner, columns=2 * tile.columns),
        **common(code, axis, tile, pointers, {"PER_TOKEN": per_token}, ("plane_step",)),
    )


def common(
    code: str,
    axis: Axis,
    tile: Tile,
    pointers: dict[str, str],
    constants: dict[str, int],
    strides: tuple[str, ...],
) -> dict[str, Any]:
    """Fields of a job that both kernels share; `pointers` and the others are a kernel's own."""
    cells, bits, crossing = table_shape(code)
    tables = {"words": "*i32", "starts": "*i32", "cells": "*i16", "turns": "*i32"}
    all_pointers = tables | {"crossing": "*i16"} | pointers
    plain = ("columns", "lifted", "group", "row_words")
    whole = ("rows", "inner", "column_step", *strides, "out_step")
    return {
        "code": code,
        "signature": all_pointers | dict.fromkeys((*plain, *whole), "i32"),
        "constants": {
            "CELLS": cells,
            "CELL_BITS": bits,
            "CROSSING": crossing,
            "OUT": axis == "out",
            "ROWS": tile.rows,
            "COLUMNS": tile.columns,
            "INNER": tile.inner,
            **constants,
        },
        "aligned": (*all_pointers, *whole),
        "options": {"num_warps": tile.warps, "num_stages": tile.stages},
    }
