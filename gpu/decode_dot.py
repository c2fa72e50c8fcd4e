"""Decode and multiply: a tile of weights is decoded into registers and meets up to 64 columns.

For batches too large for the one-bit product and too small for a dense one, and for codes with
parities at any batch. With digits for activations everything is an integer: a weight is a low digit,
-64..63, and 128 times a high one, -16..16, both int8; each is multiplied by the int8 digits into an
int32 accumulator of its own (`gpu.weights.MAX_DECODED_INNER` bounds both), and they are put together
in int64. So sums are `algo.activations.integer_product`, and outputs round once.

With float16 activations the weights are float16 accumulators, exact; with bfloat16 they are two
bfloat16s each, exact together. Products are exact in float32 (22 bits, 16 bits) and are summed in
float32. For K inputs, x, exact output y before the bias b and unit roundoff v of the output type,

    |out - exact| <= (1 + v) * ((1 + u) * n*w / (1 - n*w) * sum |W||x| + 2*u*(|y| + |b|)) + v*|exact|

with n = 2K additions of w = 2**-23, which allows for sums that are cut off and not rounded as
tensor cores' are, and u = 2**-24 for the scale and the bias. On the identity it is the decoded
weights, rounded once. Compiled offline and run under the interpreter; not run on a GPU.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from algo.errors import LiftError
from algo.matrix import Axis
from gpu.decode import BYTE, NIBBLE, SHAPES, decode_tile, window_bits
from gpu.interpret import Run
from gpu.job import KernelJob, Work
from gpu.planes import Digits
from gpu.project import DTYPES, finished, narrowed
from gpu.tables import MAX_ELEMENTS
from gpu.weights import PackedWeights


class Tile(NamedTuple):
    """Rows, columns and inputs per step of one program, its warps and pipeline stages."""

    rows: int
    columns: int
    inner: int
    warps: int
    stages: int


TILES = tuple(Tile(rows=64, columns=n, inner=64, warps=4, stages=2) for n in (16, 32, 64))


@triton.jit  # type: ignore[untyped-decorator]
def decode_dot_kernel(  # type: ignore[no-untyped-def]
    words,
    starts,
    cells,
    turns,
    crossing,
    x,
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
    WIDEN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
):
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    q = tl.arange(0, INNER)
    # rows and columns past the end are computed from the last one, and not stored
    row = tl.minimum(r, rows - 1)
    column_at = x + tl.minimum(n, columns - 1)[None, :] * column_step
    BYTES: tl.constexpr = INNER // 8
    if PER_TOKEN:
        # a step's inputs in the order of the planes, bytes next to each other
        order = 8 * (q % BYTES) + q // BYTES
        x_at = column_at + ((q // BYTES) * plane_step + q % BYTES)[:, None]
        low = tl.full((ROWS, COLUMNS), 0, tl.int32)
        high = tl.full((ROWS, COLUMNS), 0, tl.int32)
    else:
        order = q
        x_at = column_at + q[:, None]
        sums = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    for first in range(0, inner, INNER):
        k = first + order
        # inputs past the end are zeros; which weight they meet does not matter
        known = tl.minimum(k, inner - 1)
        if OUT:
            bit, place = window_bits(starts, row, lifted, group)
            at = words + ((known * row_words)[:, None] + (bit >> 5)[None, :])
        else:
            bit, place = window_bits(starts, known, lifted, group)
            at = words + ((row * row_words)[:, None] + (bit >> 5)[None, :])
        acc = decode_tile(
            at,
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
        if PER_TOKEN:
            u = tl.load(x_at + first // 8)
            upper = (acc + 64) >> BYTE
            low = tl.dot((acc - (upper << BYTE)).to(tl.int8), u, acc=low)
            high = tl.dot(upper.to(tl.int8), u, acc=high)
        else:
            u = tl.load(x_at + first, mask=(k < inner)[:, None], other=0.0)
            if x.dtype.element_ty == tl.float16:
                sums = tl.dot(acc.to(tl.float16), u, acc=sums)
            else:
                upper = ((acc + 8) >> NIBBLE) << NIBBLE
                lower = (acc - upper).to(tl.float32)
                if WIDEN:  # the same products: the interpreter has none of bfloat16s
                    u = u.to(tl.float32)
                    sums = tl.dot(lower, u, acc=sums, input_precision="ieee")
                    sums = tl.dot(upper.to(tl.float32), u, acc=sums, input_precision="ieee")
                else:
                    sums = tl.dot(lower.to(tl.bfloat16), u, acc=sums)
                    sums = tl.dot(upper.to(tl.float32).to(tl.bfloat16), u, acc=sums)
    element = out.dtype.element_ty
    scale = tl.load(scales + row)
    added = tl.load(bias + row)
    if PER_TOKEN:
        TOKENS: tl.constexpr = COLUMNS // PER_TOKEN
        tokens = columns // PER_TOKEN
        t = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
        combined = low.to(tl.int64) + (high.to(tl.int64) << BYTE)
        if PER_TOKEN == 2:
            even, odd = tl.split(tl.reshape(combined, (ROWS, TOKENS, 2)))
            combined = even + (odd << BYTE)
        to = out + t[None, :] * out_step + r[:, None]
        inside = (r < rows)[:, None] & (t < tokens)[None, :]
        if element == tl.int64:
            tl.store(to, combined, mask=inside)
        else:
            step = tl.load(steps + t, mask=t < tokens, other=0.0)
            tl.store(to, narrowed(finished(combined, scale, step, added), element), mask=inside)
    else:
        to = out + n[None, :] * out_step + r[:, None]
        inside = (r < rows)[:, None] & (n < columns)[None, :]
        tl.store(to, narrowed(sums * scale[:, None] + added[:, None], element), mask=inside)


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
    _launch(
        run, weights, planes, digits.step, columns, planes.stride(1), planes.stride(0), out,
        digits.per_token, tile, False,
    )  # fmt: skip
    return out


def launch_float(
    run: Run,
    weights: PackedWeights,
    x: torch.Tensor,
    tile: Tile | None = None,
    widen: bool = False,
) -> torch.Tensor:
    """The floating-point layer, within the bound at the top of this module.

    Args:
        run: what makes a launchable form of the kernel.
        weights: the layer.
        x: whitened inputs, float16 or bfloat16 ``(tokens, columns)``.
        tile: `tile_for` the tokens by default.
        widen: multiply bfloat16s as float32s, as the interpreter must.

    Returns:
        ``(tokens, rows)`` of the dtype of `x`.

    Raises:
        LiftError: a shape, dtype or device does not fit.
    """
    check_float(weights, x)
    x = x if x.stride(1) == 1 and 0 <= x.stride(0) * len(x) <= MAX_ELEMENTS else x.contiguous()
    out = x.new_empty((len(x), weights.rows))
    tile = tile_for(len(x)) if tile is None else tile
    _launch(run, weights, x, weights.scales, len(x), x.stride(0), 0, out, 0, tile, widen)
    return out


def _launch(
    run: Run,
    weights: PackedWeights,
    x: torch.Tensor,
    steps: torch.Tensor,
    columns: int,
    column_step: int,
    plane_step: int,
    out: torch.Tensor,
    per_token: int,
    tile: Tile,
    widen: bool,
) -> None:
    if not columns:
        return
    tables = weights.tables
    run(decode_dot_kernel)[(-(-weights.rows // tile.rows), -(-columns // tile.columns))](
        weights.words,
        tables.starts,
        tables.cells,
        tables.turns,
        # a pointer must point somewhere, even if nothing is read through it
        tables.crossing if tables.crossing.numel() else tables.cells,
        x,
        steps.contiguous(),
        weights.scales,
        weights.bias,
        out,
        weights.rows,
        columns,
        weights.columns,
        tables.lifted,
        tables.taps.shape[0],
        weights.words.stride(0),
        column_step,
        plane_step,
        out.stride(0),
        CELLS=tables.cells.shape[0],
        CELL_BITS=tables.cell_bits,
        CROSSING=tables.crossing.shape[0],
        OUT=weights.axis == "out",
        PER_TOKEN=per_token,
        WIDEN=widen,
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        INNER=tile.inner,
        num_warps=tile.warps,
        num_stages=tile.stages,
        enable_fp_fusion=False,  # the rounding depends on it
    )


def check_digits(weights: PackedWeights, digits: Digits, dtype: torch.dtype) -> int:
    """The columns of a product with digits.

    Raises:
        LiftError: a shape, dtype or device does not fit.
    """
    planes, _, step, per_token = digits
    if per_token not in (1, 2):
        raise LiftError(f"{per_token} digits per token are neither 1 (a8) nor 2 (a15)")
    if dtype not in (*DTYPES, torch.int64):
        raise LiftError(f"outputs are float32, float16, bfloat16 or int64, not {dtype}")
    columns = step.shape[0] * per_token if step.ndim == 1 else -1
    if step.dtype != torch.float32 or columns < 0:
        raise LiftError(
            f"steps are {step.dtype} of shape {tuple(step.shape)}; need float32 (tokens,)"
        )
    if (
        planes.dtype != torch.int8
        or planes.ndim != 3
        or planes.shape[0] != 8
        or planes.shape[1] < columns
        or 8 * planes.shape[2] < weights.columns
    ):
        raise LiftError(
            f"planes are {planes.dtype} of shape {tuple(planes.shape)}; {columns} columns of "
            f"{weights.columns} digits need int8 (8, N', Kb') that holds them"
        )
    if planes.numel() > MAX_ELEMENTS:
        raise LiftError(
            f"planes of {planes.numel()} digits are over {MAX_ELEMENTS}; take fewer tokens"
        )
    _check_out(weights, len(step), planes)
    return columns


def check_float(weights: PackedWeights, x: torch.Tensor) -> None:
    """Whether floating-point activations fit.

    Raises:
        LiftError: the shape, dtype or device does not.
    """
    if x.dtype not in (torch.float16, torch.bfloat16):
        raise LiftError(f"activations are {x.dtype}; need float16 or bfloat16")
    if x.ndim != 2 or x.shape[1] != weights.columns:
        raise LiftError(
            f"activations have shape {tuple(x.shape)}; the layer needs (tokens, {weights.columns})"
        )
    if x.numel() > MAX_ELEMENTS:
        raise LiftError(
            f"activations of {x.numel()} numbers are over {MAX_ELEMENTS}; take fewer tokens"
        )
    _check_out(weights, len(x), x)


def _check_out(weights: PackedWeights, tokens: int, x: torch.Tensor) -> None:
    if tokens * weights.rows > MAX_ELEMENTS:
        raise LiftError(
            f"{tokens} tokens of {weights.rows} outputs are over {MAX_ELEMENTS}; take fewer tokens"
        )
    if x.device != weights.words.device:
        raise LiftError(
            f"activations are on {x.device} and weights on {weights.words.device}; move them to "
            "one device"
        )


# activations: their type, digits per token and the type of outputs
_KINDS = {
    "a8": ("*i8", 1, "*bf16"),
    "a15": ("*i8", 2, "*bf16"),
    "float16": ("*fp16", 0, "*fp16"),
    "bfloat16": ("*bf16", 0, "*bf16"),
}


def jobs() -> list[KernelJob]:
    """Decode and multiply in the widest tile for every shape of tables and for one in all tiles.

    Kinds of activations are compiled with the one; the look-up does not depend on them.
    """
    axes: tuple[Axis, ...] = ("in", "out")
    return [
        decode_dot_job(shape, kind, axis, tile)
        for shape in SHAPES
        for kind in _KINDS
        for axis in axes
        for tile in TILES
        if shape == "window-12" or (kind == "a8" and tile == TILES[-1])
    ]


def decode_dot_job(shape: str, kind: str, axis: Axis, tile: Tile) -> KernelJob:
    """One kernel to compile; sizes and strides are multiples of 16, as a layer's mostly are."""
    cells, bits, crossing = SHAPES[shape]
    element, per_token, output = _KINDS[kind]
    pointers = {
        "words": "*i32",
        "starts": "*i32",
        "cells": "*i16",
        "turns": "*i32",
        "crossing": "*i16",
        "x": element,
        "steps": "*fp32",
        "scales": "*fp32",
        "bias": "*fp32",
        "out": output,
    }
    plain = ("columns", "lifted", "group", "row_words")
    whole = ("rows", "inner", "column_step", "plane_step", "out_step")
    return KernelJob(
        kernel=f"decode_dot-{kind}-{axis}-{tile.columns}",
        code=shape,
        function=decode_dot_kernel,
        signature=pointers | dict.fromkeys((*plain, *whole), "i32"),
        constants={
            "CELLS": cells,
            "CELL_BITS": bits,
            "CROSSING": crossing,
            "OUT": axis == "out",
            "PER_TOKEN": per_token,
            "WIDEN": False,
            "ROWS": tile.rows,
            "COLUMNS": tile.columns,
            "INNER": tile.inner,
        },
        aligned=(*pointers, *whole),
        options={"num_warps": tile.warps, "num_stages": tile.stages},
        work=Work(
            unit="weight",
            per_trip=tile.rows * tile.inner,
            columns=tile.columns * (1 if kind == "float16" else 2),  # of both parts
        ),
    )
