"""The whitening transform: two products with small factors, the same bits on every machine.

`algo.whitening.Whitening.ordered` says in which order what is rounded; here each sum runs over its
terms in that order, in float32, with nothing fused and no tensor cores. One kernel is launched
twice: all rows of all tokens' squares times the right factor, then the left factor times each
token's square. On the way the second launch finds each token's largest magnitude, and the first
sets to zero what later launches add to or take maxima with.

Compiled offline and run under the interpreter; not run on a GPU.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from algo.errors import LiftError
from gpu.interpret import Run
from gpu.job import KernelJob
from gpu.tables import MAX_ELEMENTS
from gpu.whitening_tensors import WhiteningTensors, whitening_tensors

__all__ = [
    "FEW",
    "MANY",
    "Block",
    "WhiteningTensors",
    "jobs",
    "whiten",
    "whiten_kernel",
    "whitening_tensors",
]

ZEROS = 256  # entries that a program sets to zero at a time


class Block(NamedTuple):
    """One program: ``rows`` times ``parts * columns`` sums, a thread holding all parts."""

    parts: int
    rows: int
    columns: int
    warps: int
    unroll: int  # terms whose loads are under way together


FEW = Block(parts=1, rows=2, columns=16, warps=1, unroll=8)  # a sum per thread: many programs
# 16 sums per thread from 8 loads; fewer loads than threads, which Triton would deal out otherwise
MANY = Block(parts=4, rows=32, columns=16, warps=4, unroll=4)
MANY_SUMS = 1 << 18  # from here on the larger blocks fill a GPU, too


@triton.jit  # type: ignore[untyped-decorator]
def whiten_kernel(  # type: ignore[no-untyped-def]
    x,
    pre,
    y,
    out,
    zeros,
    largest,
    rows,
    outer,
    inner,
    columns,
    x_stride,
    y_stride,
    y_row_stride,
    out_stride,
    out_row_stride,
    zero_count,
    SCALED: tl.constexpr,
    LAST: tl.constexpr,
    PARTS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ZEROS: tl.constexpr,
    UNROLL: tl.constexpr,
):
    column_blocks = tl.cdiv(columns, PARTS * COLUMNS)
    block = tl.program_id(0) // column_blocks
    product = block // tl.cdiv(rows, ROWS)
    row = (block - product * tl.cdiv(rows, ROWS)) * ROWS + tl.arange(0, ROWS)
    inside_rows = row < rows
    row = tl.minimum(row, rows - 1)
    square = row // outer
    other = row - square * outer
    part = (tl.program_id(0) - block * column_blocks) * PARTS + tl.arange(0, PARTS)
    column = part[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    x_at = x + square.to(tl.int64) * x_stride + other * inner
    pre_at = pre + other * inner
    y_at = y + product * y_stride + column
    # parts are the outermost axis, so that a thread has all parts of its rows and columns
    total = tl.full((PARTS, ROWS, COLUMNS), 0.0, tl.float32)
    for k in tl.range(0, inner, loop_unroll_factor=UNROLL):
        value = tl.load(x_at + k).to(tl.float32)
        if SCALED:
            value = value * tl.load(pre_at + k)
        total = total + value[None, :, None] * tl.load(y_at)[:, None, :]
        y_at += y_row_stride
    at = (product * out_stride + row * out_row_stride)[None, :, None] + column[:, None, :]
    inside = inside_rows[None, :, None]
    if LAST:
        inside = inside & (column < columns)[:, None, :]
        # magnitudes order as their bits do, NaN above infinity: no order of maxima can matter;
        # rows past the end repeat the last, and columns past the end are zero or no numbers
        bits = total.to(tl.int32, bitcast=True) & 0x7FFFFFFF
        most = tl.max(tl.max(tl.max(bits, axis=0), axis=0), axis=0)
        tl.atomic_max(largest + product, most, sem="relaxed")
    else:
        for first in range(tl.program_id(0) * ZEROS, zero_count, tl.num_programs(0) * ZEROS):
            n = first + tl.arange(0, ZEROS)
            tl.store(zeros + n, tl.full((ZEROS,), 0, tl.int32), mask=n < zero_count)
    tl.store(out + at, total, mask=inside)


def whiten(
    run: Run,
    x: torch.Tensor,
    whitening: WhiteningTensors,
    zeros: torch.Tensor,
    largest: torch.Tensor,
    block: Block | None = None,
) -> torch.Tensor:
    """``T x`` for every token, in two launches.

    Args:
        run: what turns the kernel into what is launched.
        x: ``(tokens, a*b)``, float32, float16 or bfloat16; rows at any distance.
        whitening: on the same device.
        zeros: int32, contiguous; all its entries are zero after the first launch.
        largest: int32 ``(tokens,)``, part of `zeros`: afterwards the bits of each token's largest
            float32 magnitude, above those of infinity where one is NaN.
        block: shape of a program; chosen by size if None.

    Returns:
        float32 ``(tokens, a*b)``, bit for bit `Whitening.ordered`.

    Raises:
        LiftError: the intermediate result is longer than 32-bit indices reach.
    """
    left, right, pre = whitening
    (tokens, n), (a, b) = x.shape, (len(left), len(right))
    wide = right.shape[1]
    if tokens * a * wide > MAX_ELEMENTS:
        raise LiftError(
            f"{tokens} tokens of {n} inputs are over {MAX_ELEMENTS} elements, which is as far as "
            "32-bit indices reach; take fewer tokens at a time"
        )
    block = block or (FEW if tokens * n < MANY_SUMS else MANY)
    if wide % (block.parts * block.columns):
        raise LiftError(
            f"rows of {wide} are not whole multiples of {block}'s columns; pad the factor"
        )
    x = x if x.stride(1) == 1 else x.contiguous()
    half, whole = (x.new_empty((tokens, a, size), dtype=torch.float32) for size in (wide, b))
    for last, products, sizes, strides, pointers in (
        # rows, squares' rows, terms, columns; strides of x, of y and its rows, of out and its rows
        (False, 1, (tokens * a, a, b, b), (x.stride(0), 0, wide, 0, wide), (x, pre, right, half)),
        (True, tokens, (a, a, a, b), (0, a * wide, wide, n, b), (left, None, half, whole)),
    ):  # fmt: skip
        source, scale, factor, out = pointers
        blocks = -(-sizes[0] // block.rows) * -(-b // (block.parts * block.columns))
        run(whiten_kernel)[(products * blocks,)](
            source,
            factor if scale is None else scale,  # a pointer must point somewhere
            factor,
            out,
            zeros,
            largest,
            *sizes,
            *strides,
            zeros.numel(),
            SCALED=scale is not None,
            LAST=last,
            PARTS=block.parts,
            ROWS=block.rows,
            COLUMNS=block.columns,
            ZEROS=ZEROS,
            UNROLL=block.unroll,
            num_warps=block.warps,
            enable_fp_fusion=False,  # products are rounded before they are added
        )
    return whole.view(tokens, n)


def jobs() -> list[KernelJob]:
    """Both launches in both block sizes; the first for each type of activations."""
    strides = ("x_stride", "y_stride", "y_row_stride", "out_stride", "out_row_stride")
    sizes = ("rows", "outer", "inner", "columns")
    listed = []
    for name, block in (("few", FEW), ("many", MANY)):
        for stage, element in (
            ("first-float16", "*fp16"),
            ("first-bfloat16", "*bf16"),
            ("first-float32", "*fp32"),
            ("last", "*fp32"),
        ):
            last = stage == "last"
            pointers = {"x": element} | dict.fromkeys(("pre", "y", "out"), "*fp32")
            pointers |= dict.fromkeys(("zeros", "largest"), "*i32")
            listed.append(
                KernelJob(
                    kernel=f"whiten-{stage}-{name}",
                    code="any",
                    function=whiten_kernel,
                    signature=pointers | dict.fromkeys((*sizes, *strides, "zero_count"), "i32"),
                    constants={
                        "SCALED": not last,
                        "LAST": last,
                        "PARTS": block.parts,
                        "ROWS": block.rows,
                        "COLUMNS": block.columns,
                        "ZEROS": ZEROS,
                        "UNROLL": block.unroll,
                    },
                    aligned=(*pointers, *sizes, *strides),
                    options={"num_warps": block.warps},
                )
            )
    return listed
