"""The one-bit product with the projection in its epilogue: one launch, no sums in memory.

A program multiplies `ROWS` consecutive stream bits of one segment, counted round the stream, and
projects those outputs whose windows lie within them: outputs are taken one after the other until a
window would reach past the rows. The bits that the last window shares with the next program's first
are multiplied twice. Of a sliding code ``(ROWS - L)//(D/d) + 1`` outputs fit, of a block code
``ROWS//D`` groups, so the part of the rows that is not repeated is about

    (ROWS - L)/ROWS + (D/d)/ROWS   (sliding)       D*(ROWS//D)/ROWS   (block)

(`gpu.fused_layout.efficiency` counts it). For 64 rows: LQ-12/5+9 0.84, LQ-2/1+10 0.84, LQ-24/10
0.75, LQ-16/8 and axis ``in`` 1. The repeated rows come from the second-level cache, and K is not
split, so this form saves a pass where there are programs enough without a split.

The projection is an int8 product again, with a banded matrix of taps: sums are split in signed
digits of base 256, which are put together again in int64. In the machine code for sm_90 the default
tile for a token grows by some 390 instructions a thread for a8, 300 for a15 and 210 on axis ``in``,
which at K = 4096 and 2.4 bits are 0.23, 0.18 and 0.12 for each weight; gathering the sums tap by
tap would need 510 and a loop over the window. Compiled offline and run under the
interpreter; not run on a GPU.
"""

import torch
import triton
import triton.language as tl

from algo.errors import LiftError
from gpu.bitmm import one_bit_tile, packed
from gpu.fused_layout import Programs
from gpu.interpret import Run
from gpu.job import KernelJob, Work
from gpu.project import check_step, finished, narrowed
from gpu.stack import Stack
from gpu.tables import MAX_ELEMENTS
from gpu.tiles import AMD_NARROW, AMD_WIDE, SINGLE, WIDE, Tile

# Not every tile of the one-bit product: the projection spills where registers are short, and
# sm_100 has no product of 64 outputs of four warps with 8 columns.
NVIDIA = (SINGLE, Tile(rows=64, columns=16, inner=64, warps=2, stages=3), WIDE)
AMD = (AMD_NARROW, AMD_WIDE)


@triton.jit  # type: ignore[untyped-decorator]
def projected_tile(  # type: ignore[no-untyped-def]
    total, band_at, OUTPUTS: tl.constexpr, COLUMNS: tl.constexpr, SPLIT: tl.constexpr
):
    """int64 ``(OUTPUTS, COLUMNS)``: taps times sums of stream bits, exactly.

    `total` is int32 ``(ROWS, COLUMNS)`` and fits `SPLIT` digits of base 256; `band_at` points at
    the int8 ``(OUTPUTS, ROWS)`` taps. A product with digits is at most ``2047 * 128``.
    """
    band = tl.load(band_at)
    out = tl.full((OUTPUTS, COLUMNS), 0, tl.int64)
    for k in tl.static_range(SPLIT):
        part = tl.dot(band, total.to(tl.int8))  # the low byte, with its sign
        out += part.to(tl.int64) << (8 * k)
        total = (total + 128) >> 8
    return out


@triton.jit  # type: ignore[untyped-decorator]
def fused_kernel(  # type: ignore[no-untyped-def]
    bits,
    planes,
    column_sums,
    programs,
    bands,
    scales,
    bias,
    steps,
    out,
    tokens,
    columns,
    row_bytes,
    column_stride,
    plane_stride,
    out_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    PACKED: tl.constexpr,
    OUTPUTS: tl.constexpr,
    SPLIT: tl.constexpr,
    PER_TOKEN: tl.constexpr,
    SHIFT: tl.constexpr,
):
    row = programs + tl.program_id(0) * 6
    first_bit = tl.load(row)
    segment_bits = tl.load(row + 1)
    q = (tl.load(row + 2) + tl.arange(0, ROWS)) % segment_bits
    n = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, INNER)
    bits_at = bits + (first_bit + q)[:, None] * row_bytes + k[None, :]
    # columns past the end read the last one and are not stored
    column = tl.minimum(n, columns - 1)
    plane_at = planes + k[:, None] + column[None, :] * column_stride
    sums_at = column_sums + column
    total = one_bit_tile(
        bits_at, plane_at, sums_at, 0, row_bytes, plane_stride, ROWS, COLUMNS, INNER, PACKED
    )
    own = tl.arange(0, OUTPUTS)
    inside = own < tl.load(row + 4)
    o = tl.load(row + 3) + tl.where(inside, own, 0)
    scale, offset = tl.load(scales + o), tl.load(bias + o)
    band_at = bands + tl.load(row + 5) * (OUTPUTS * ROWS)
    band_at += own[:, None] * ROWS + tl.arange(0, ROWS)[None, :]
    if SPLIT:
        projected = projected_tile(total, band_at, OUTPUTS, COLUMNS, SPLIT)
    else:
        projected = total.to(tl.int64)
    t = tl.program_id(1) * (COLUMNS // PER_TOKEN) + tl.arange(0, COLUMNS // PER_TOKEN)
    if PER_TOKEN > 1:
        # digit k of a token is in its k-th column and counts 2**(SHIFT * k)
        place = (SHIFT * (tl.arange(0, COLUMNS) % PER_TOKEN)).to(tl.int64)
        placed = projected << place[None, :]
        projected = tl.sum(tl.reshape(placed, (OUTPUTS, COLUMNS // PER_TOKEN, PER_TOKEN)), axis=2)
    step = tl.load(steps + t, mask=t < tokens, other=0.0)
    y = finished(projected, scale, step, offset)
    out_at = out + t[None, :] * out_stride + o[:, None]
    present = inside[:, None] & (t < tokens)[None, :]
    tl.store(out_at, narrowed(y, out.dtype.element_ty), mask=present)


def launch(
    run: Run,
    stack: Stack,
    layout: Programs,
    planes: torch.Tensor,
    column_sums: torch.Tensor,
    step: torch.Tensor,
    dtype: torch.dtype,
    tile: Tile,
) -> torch.Tensor:
    """Outputs of a stack from planes of digits.

    Args:
        run: what makes a launchable form of the kernel.
        stack: the layers.
        layout: `programs` of the stack and the tile.
        planes: int8 ``(8, N', Kb')``, digits in planes, zero-padded to whole tiles.
        column_sums: int32 ``(N',)``, the digits' sums.
        step: float32 ``(tokens,)``; a token whose step is NaN gives NaN.
        dtype: float32, float16 or bfloat16.
        tile: the tile `layout` was made for.

    Returns:
        ``(tokens, outputs)`` of `dtype`.

    Raises:
        LiftError: a shape, dtype or device does not fit.
    """
    tokens = check_step(stack, step, dtype)
    columns = tokens * stack.bounds.per_token
    inner = -(-stack.row_bytes // tile.inner) * tile.inner
    if planes.dtype != torch.int8 or planes.ndim != 3 or planes.stride(2) != 1:
        raise LiftError(
            f"planes are {planes.dtype} of shape {tuple(planes.shape)}; need int8 (8, N', bytes), "
            "the bytes of a column adjacent"
        )
    if planes.shape[0] != 8 or planes.shape[1] < columns or planes.shape[2] < inner:
        raise LiftError(
            f"planes of shape {tuple(planes.shape)} do not fit {tokens} tokens; need at least "
            f"(8, {columns}, {inner})"
        )
    if 8 * planes.stride(0) > MAX_ELEMENTS:
        raise LiftError(
            f"planes of shape {tuple(planes.shape)} are over {MAX_ELEMENTS} bytes, which is as "
            "far as 32-bit indices reach; split the tokens"
        )
    if column_sums.dtype != torch.int32 or column_sums.shape != planes.shape[1:2]:
        raise LiftError(
            f"column sums are {column_sums.dtype} of shape {tuple(column_sums.shape)}; the planes "
            f"need int32 ({planes.shape[1]},)"
        )
    out = torch.empty((tokens, stack.outputs), dtype=dtype, device=planes.device)
    if tokens:
        run(fused_kernel)[(layout.table.shape[0], -(-columns // tile.columns))](
            stack.words.view(torch.int8),
            planes,
            column_sums,
            layout.table,
            layout.bands,
            stack.scales,
            stack.bias,
            step.contiguous(),
            out,
            tokens,
            columns,
            stack.row_bytes,
            planes.stride(1),
            planes.stride(0),
            out.stride(0),
            ROWS=tile.rows,
            COLUMNS=tile.columns,
            INNER=tile.inner,
            PACKED=packed(planes.device),
            OUTPUTS=layout.outputs,
            SPLIT=layout.split,
            PER_TOKEN=stack.bounds.per_token,
            SHIFT=stack.bounds.base.bit_length() - 1,
            num_warps=tile.warps,
            num_stages=tile.stages,
            enable_fp_fusion=False,  # the rounding depends on it
        )
    return out


def tile_for(columns: int, amd: bool = False) -> Tile:
    """The tile for so many columns of digits: the narrowest that holds them, or the widest."""
    tiles = AMD if amd else NVIDIA
    return next((tile for tile in tiles if columns <= tile.columns), tiles[-1])


# columns per token, digits of a sum, bits of a digit: a8 and a15 on axis out, both on axis in
FORMS = {"out-a8": (1, 3, 7), "out-a15": (2, 3, 7), "in": (4, 0, 8)}


def jobs() -> list[KernelJob]:
    """The fused product in its tiles, for every form of digits.

    On axis ``out`` a program has half as many outputs as rows at 2 bits and more, and up to as many
    at fewer. bfloat16 stands for all types of output: they differ in the last conversion.
    """
    kinds = (
        (NVIDIA, ("sm_89", "sm_90", "sm_100"), ""),
        (NVIDIA, ("sm_80",), "-packed"),
        (AMD, ("gfx942",), "-amd"),
    )
    return [
        _job(tile, form, outputs, targets, kind)
        for tiles, targets, kind in kinds
        for tile in tiles
        for form in FORMS
        for outputs in ((tile.rows,) if form == "in" else (tile.rows // 2, tile.rows))
    ]


def _job(tile: Tile, form: str, outputs: int, targets: tuple[str, ...], kind: str) -> KernelJob:
    per_token, split, shift = FORMS[form]
    pointers = {
        "bits": "*i8",
        "planes": "*i8",
        "column_sums": "*i32",
        "programs": "*i32",
        "bands": "*i8",
        "scales": "*fp32",
        "bias": "*fp32",
        "steps": "*fp32",
        "out": "*bf16",
    }
    strides = dict.fromkeys(("row_bytes", "column_stride", "plane_stride"), "i32")
    sizes = dict.fromkeys(("tokens", "columns", "out_stride"), "i32")
    return KernelJob(
        kernel=f"fused-{form}-{tile.rows}x{tile.columns}x{tile.inner}-{outputs}{kind}",
        code="any",
        function=fused_kernel,
        signature=pointers | strides | sizes,
        constants={
            "ROWS": tile.rows,
            "COLUMNS": tile.columns,
            "INNER": tile.inner,
            "PACKED": kind == "-packed",
            "OUTPUTS": outputs,
            "SPLIT": split,
            "PER_TOKEN": per_token,
            "SHIFT": shift,
        },
        aligned=(*pointers, *strides),
        options={"num_warps": tile.warps, "num_stages": tile.stages},
        work=Work(unit="bit", per_trip=8 * tile.rows * tile.inner, columns=tile.columns),
        batch_one=tile in (NVIDIA[0], AMD[0]),
        targets=targets,
    )
