"""Decode and multiply with floating-point activations, without digits.

float16 activations meet float16 accumulators, which are exact; bfloat16 ones meet two bfloat16s
per weight, together exact. Products are exact in float32 (22 bits, 16 bits) and are summed there;
scale and bias come at the end. For K inputs, product p, exact output y = p + b and the output
type's unit roundoff v (2**-11, 2**-8),

    |out - y| <= (1 + v) * ((1 + u) * g * sum |W||x| + 2*u*(|p| + |b|)) + v*|y|

with g = n*w / (1 - n*w), n = 2K additions of w = 2**-23, which allows for sums that are cut off and
not rounded, as tensor cores' are, and u = 2**-24 for scale and bias; where y is subnormal, half of
the type's smallest number more. On the identity it is the decoded weights, rounded once. Compiled
offline and run under the interpreter; not run on a GPU.
"""

import torch
import triton
import triton.language as tl

from algo.matrix import Axis
from gpu.decode import NIBBLE
from gpu.decode_dot import (
    TILES,
    Tile,
    common,
    constants_of,
    matrix_tile,
    table_pointers,
    tile_for,
)
from gpu.interpret import Run
from gpu.job import KernelJob, Work
from gpu.project import narrowed
from gpu.tables import MAX_ELEMENTS
from gpu.weights import PackedWeights, check_float


@triton.jit  # type: ignore[untyped-decorator]
def added_product(acc, u, sums, WIDEN: tl.constexpr):  # type: ignore[no-untyped-def]
    """``sums + acc @ u`` in float32, `acc` in as many parts as the type of `u` needs."""
    if u.dtype == tl.float16:
        sums = tl.dot(acc.to(tl.float16), u, acc=sums)
    else:
        upper = ((acc + 8) >> NIBBLE) << NIBBLE
        lower = (acc - upper).to(tl.float32).to(tl.bfloat16)
        upper = upper.to(tl.float32).to(tl.bfloat16)
        if WIDEN:  # the same products: the interpreter has none of bfloat16s
            u = u.to(tl.float32)
            sums = tl.dot(lower.to(tl.float32), u, acc=sums, input_precision="ieee")
            sums = tl.dot(upper.to(tl.float32), u, acc=sums, input_precision="ieee")
        else:
            sums = tl.dot(lower, u, acc=sums)
            sums = tl.dot(upper, u, acc=sums)
    return sums


@triton.jit  # type: ignore[untyped-decorator]
def decode_dot_float_kernel(  # type: ignore[no-untyped-def]
    words,
    starts,
    cells,
    turns,
    crossing,
    x,
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
    out_step,
    CELLS: tl.constexpr,
    CELL_BITS: tl.constexpr,
    CROSSING: tl.constexpr,
    OUT: tl.constexpr,
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
    x_at = x + tl.minimum(n, columns - 1)[None, :] * column_step + q[:, None]
    sums = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    for first in range(0, inner, INNER):
        k = first + q
        acc = matrix_tile(
            words,
            starts,
            cells,
            turns,
            crossing,
            row,
            tl.minimum(k, inner - 1),
            lifted,
            group,
            row_words,
            CELLS,
            CELL_BITS,
            CROSSING,
            OUT,
        )
        u = tl.load(x_at + first, mask=(k < inner)[:, None], other=0.0)
        sums = added_product(acc, u, sums, WIDEN)
    y = sums * tl.load(scales + row)[:, None] + tl.load(bias + row)[:, None]
    to = out + n[None, :] * out_step + r[:, None]
    inside = (r < rows)[:, None] & (n < columns)[None, :]
    tl.store(to, narrowed(y, out.dtype.element_ty), mask=inside)


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
        tile: `gpu.decode_dot.tile_for` the tokens by default.
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
    if len(x):
        run(decode_dot_float_kernel)[(-(-weights.rows // tile.rows), -(-len(x) // tile.columns))](
            *table_pointers(weights),
            x,
            weights.scales,
            weights.bias,
            out,
            weights.rows,
            len(x),
            weights.columns,
            weights.tables.lifted,
            weights.tables.taps.shape[0],
            weights.words.stride(0),
            x.stride(0),
            out.stride(0),
            WIDEN=widen,
            **constants_of(weights, tile),
        )
    return out


_ELEMENTS = {torch.float16: "*fp16", torch.bfloat16: "*bf16"}


def jobs() -> list[KernelJob]:
    """Both types in all tiles, for one code: how weights are decoded is in `gpu.decode_dot`'s."""
    axes: tuple[Axis, ...] = ("in", "out")
    return [
        float_job("LQ-12/5+9", dtype, axis, tile)
        for dtype in _ELEMENTS
        for axis in axes
        for tile in TILES
    ]


def float_job(code: str, dtype: torch.dtype, axis: Axis, tile: Tile) -> KernelJob:
    """One kernel to compile; sizes and strides are multiples of 16, as a layer's mostly are."""
    element = _ELEMENTS[dtype]
    pointers = {"x": element, "scales": "*fp32", "bias": "*fp32", "out": element}
    parts = 1 if dtype == torch.float16 else 2
    return KernelJob(
        kernel=f"decode_dot-{str(dtype).removeprefix('torch.')}-{axis}-{tile.columns}",
        function=decode_dot_float_kernel,
        work=Work(unit="weight", per_trip=tile.rows * tile.inner, columns=parts * tile.columns),
        **common(code, axis, tile, pointers, {"WIDEN": False}, ()),
    )
