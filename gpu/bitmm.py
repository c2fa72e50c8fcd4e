"""The one-bit product: packed signs times int8 digits, exact in int32.

Bits are never unpacked. A byte of eight bits is an int8 operand as it lies; ``x & (1 << s)`` leaves
plane ``s`` of it, worth 0 or ``2**s`` (-128 for ``s = 7``), and one int8 matrix product per plane
gathers ``2**s`` times the digits whose bit is set. The shift that undoes it is exact, so with
``r`` the sum of the digits at set bits, ``sum((2*bit - 1) * u) = 2*r - sum(u)``.

Bound: the largest product is ``-128 * -128 = 2**14`` per byte of K, so ``K/8 <= 131071`` keeps
every accumulator in int32 (`gpu.tables.MAX_INNER`); ``2*r`` is then below ``2**28``. Compiled
offline and run under the interpreter; not run on a GPU.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from gpu.job import KernelJob, Work
from gpu.tables import as_int32


class Tile(NamedTuple):
    """Rows, columns and bytes of K per step, warps and pipeline stages of one program."""

    rows: int
    columns: int
    inner: int
    warps: int
    stages: int


NARROW = Tile(rows=64, columns=16, inner=64, warps=4, stages=2)  # decoding, a token or a few
# half the bytes per step: eight wide accumulators and a longer step do not fit sm_80's registers
WIDE = Tile(rows=64, columns=32, inner=32, warps=4, stages=2)


@triton.jit  # type: ignore[untyped-decorator]
def one_bit_tile(  # type: ignore[no-untyped-def]
    bits_at,
    plane_at,
    column_sums_at,
    row_bytes,
    plane_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
):
    """int32 ``(ROWS, COLUMNS)``: rows of bits times columns of digits, over all of K.

    ``bits_at`` points at the first `INNER` bytes of each row, ``(ROWS, INNER)``; ``plane_at`` at
    those of each column in plane 0, ``(INNER, COLUMNS)``; ``column_sums_at`` at ``(COLUMNS,)``.
    """
    k = tl.arange(0, INNER)
    a0 = tl.full((ROWS, COLUMNS), 0, tl.int32)
    a1 = tl.full((ROWS, COLUMNS), 0, tl.int32)
    a2 = tl.full((ROWS, COLUMNS), 0, tl.int32)
    a3 = tl.full((ROWS, COLUMNS), 0, tl.int32)
    a4 = tl.full((ROWS, COLUMNS), 0, tl.int32)
    a5 = tl.full((ROWS, COLUMNS), 0, tl.int32)
    a6 = tl.full((ROWS, COLUMNS), 0, tl.int32)
    a7 = tl.full((ROWS, COLUMNS), 0, tl.int32)
    for first in range(0, row_bytes, INNER):
        x = tl.load(bits_at + first, mask=(k < row_bytes - first)[None, :], other=0)
        u = plane_at + first
        a0 = tl.dot(x & 1, tl.load(u), acc=a0)
        a1 = tl.dot(x & 2, tl.load(u + plane_stride), acc=a1)
        a2 = tl.dot(x & 4, tl.load(u + 2 * plane_stride), acc=a2)
        a3 = tl.dot(x & 8, tl.load(u + 3 * plane_stride), acc=a3)
        a4 = tl.dot(x & 16, tl.load(u + 4 * plane_stride), acc=a4)
        a5 = tl.dot(x & 32, tl.load(u + 5 * plane_stride), acc=a5)
        a6 = tl.dot(x & 64, tl.load(u + 6 * plane_stride), acc=a6)
        a7 = tl.dot(x & -128, tl.load(u + 7 * plane_stride), acc=a7)
    total = a0 + (a1 >> 1) + (a2 >> 2) + (a3 >> 3) + (a4 >> 4) + (a5 >> 5) + (a6 >> 6) - (a7 >> 7)
    return 2 * total - tl.load(column_sums_at)[None, :]


@triton.jit  # type: ignore[untyped-decorator]
def bitmm_kernel(  # type: ignore[no-untyped-def]
    bits,
    planes,
    column_sums,
    out,
    rows,
    columns,
    row_bytes,
    column_stride,
    plane_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
):
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, INNER)
    # rows past the end read the last row and are not stored; columns past the end are padding
    bits_at = bits + tl.minimum(r, rows - 1)[:, None] * row_bytes + k[None, :]
    plane_at = planes + k[:, None] + n[None, :] * column_stride
    total = one_bit_tile(
        bits_at, plane_at, column_sums + n, row_bytes, plane_stride, ROWS, COLUMNS, INNER
    )
    inside = (r < rows)[:, None] & (n < columns)[None, :]
    tl.store(out + r[:, None] * columns + n[None, :], total, mask=inside)


def digit_planes(
    digits: torch.Tensor, row_bytes: int, tile: Tile
) -> tuple[torch.Tensor, torch.Tensor]:
    """The digits as the kernel reads them.

    Args:
        digits: int8 ``(K, N)``.
        row_bytes: bytes in a row of the bit matrix.
        tile: padding goes up to whole tiles.

    Returns:
        int8 ``(8, N', row_bytes')``: entry ``(s, n, k)`` is digit ``(8k + s, n)``, zero past the
        end, with K innermost because tensor cores read int8 along K; and int32 ``(N',)``, the
        digits' sums.
    """
    inner, columns = digits.shape
    padded_bytes = -(-row_bytes // tile.inner) * tile.inner
    padded = digits.new_zeros((padded_bytes * 8, -(-columns // tile.columns) * tile.columns))
    padded[:inner, :columns] = digits
    planes = padded.view(padded_bytes, 8, -1).permute(1, 2, 0).contiguous()
    return planes, padded.sum(dim=0, dtype=torch.int32)


def launch(kernel: Any, words: torch.Tensor, digits: torch.Tensor, tile: Tile) -> torch.Tensor:
    """Run `kernel` (`bitmm_kernel` or its interpreted form) on checked arguments.

    Rows of whole 16-byte units (K a multiple of 128) load fastest; any K is right.
    """
    words = as_int32(words)
    rows, columns = words.shape[0], digits.shape[1]
    row_bytes = 4 * words.shape[1]
    planes, column_sums = digit_planes(digits, row_bytes, tile)
    out = torch.empty((rows, columns), dtype=torch.int32, device=words.device)
    kernel[(-(-rows // tile.rows), -(-columns // tile.columns))](
        words.view(torch.int8),
        planes,
        column_sums,
        out,
        rows,
        columns,
        row_bytes,
        planes.stride(1),
        planes.stride(0),
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        INNER=tile.inner,
        num_warps=tile.warps,
        num_stages=tile.stages,
        enable_fp_fusion=False,  # nothing to fuse; Triton warns where it is left open
    )
    return out


def tile_for(columns: int) -> Tile:
    """The tile for a product with `columns` columns."""
    return NARROW if columns <= NARROW.columns else WIDE


def jobs() -> list[KernelJob]:
    """The one-bit product in both tile sizes."""
    pointers = {"bits": "*i8", "planes": "*i8", "column_sums": "*i32", "out": "*i32"}
    strides = dict.fromkeys(("row_bytes", "column_stride", "plane_stride"), "i32")
    return [
        KernelJob(
            kernel=f"bitmm-{tile.columns}",
            code="any",
            function=bitmm_kernel,
            signature=pointers | {"rows": "i32", "columns": "i32"} | strides,
            constants={"ROWS": tile.rows, "COLUMNS": tile.columns, "INNER": tile.inner},
            aligned=(*pointers, *strides),
            options={"num_warps": tile.warps, "num_stages": tile.stages},
            work=Work(
                unit="bit",
                per_trip=8 * tile.rows * tile.inner,
                columns=tile.columns,
                loaded_bytes=(tile.rows + 8 * tile.columns) * tile.inner,
            ),
            batch_one=tile is NARROW,
        )
        for tile in (NARROW, WIDE)
    ]
