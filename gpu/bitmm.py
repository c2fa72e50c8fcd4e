"""The one-bit product: packed signs times int8 digits, exact in int32.

Bits are never unpacked. A byte of eight bits is an int8 operand as it lies; ``x & (1 << s)`` leaves
plane ``s`` of it, worth 0 or ``2**s`` (-128 for ``s = 7``), and one int8 matrix product per plane
gathers ``2**s`` times the digits whose bit is set. The shift that undoes it is exact, so with
``r`` the sum of the digits at set bits, ``sum((2*bit - 1) * u) = 2*r - sum(u)``.

Bound: the largest product is ``-128 * -128 = 2**14`` per byte of K, so ``K/8 <= 131071`` keeps
every accumulator in int32 (`gpu.tables.MAX_INNER`); ``2*r`` is then below ``2**28``. K may be split
over programs that add to the same sums: they are integers, so no order of adding shows.

What bounds it: at few columns the issue slots. A word of 32 bits takes eight masks, one a plane, so
0.25 lane-instructions per bit are the floor, 0.6 per weight at 2.4 bits; one token's tile needs
1.0 in all, two fifths of the time in which an H100 reads the bits. With more columns the planes
count, which every `Tile.rows` rows read again from the second-level cache, and from about 20 on an
A100 the tensor cores. Compiled offline and run under the interpreter; not run on a GPU.
"""

import torch
import triton
import triton.language as tl

from algo.errors import LiftError
from gpu.interpret import Run
from gpu.job import KernelJob, Work
from gpu.tables import MAX_ELEMENTS, as_int32
from gpu.tiles import AMD_TILES, DEFAULTS, GROUP_TILES, NVIDIA_TILES, Tile, tile_for


@triton.jit  # type: ignore[untyped-decorator]
def masked(x, MASK: tl.constexpr, PACKED: tl.constexpr):  # type: ignore[no-untyped-def]
    """``x & MASK`` of bytes, four at a time.

    For sm_80, and of our targets only there, the compiler takes words apart to mask their bytes and
    puts them together again, five times the instructions; `PACKED` says outright what it makes of
    the plain form everywhere else.
    """
    if PACKED:
        return tl.inline_asm_elementwise(
            f"and.b32 $0, $1, {(MASK & 255) * 0x01010101};",
            "=r,r",
            [x],
            dtype=tl.int8,
            is_pure=True,
            pack=4,
        )
    return x & MASK


@triton.jit  # type: ignore[untyped-decorator]
def one_bit_tile(  # type: ignore[no-untyped-def]
    bits_at,
    plane_at,
    column_sums_at,
    first,
    end,
    plane_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    PACKED: tl.constexpr,
):
    """int32 ``(ROWS, COLUMNS)``: rows of bits times columns of digits, over bytes first to end.

    ``bits_at`` points at the first `INNER` bytes of each row, ``(ROWS, INNER)``; ``plane_at`` at
    those of each column in plane 0, ``(INNER, COLUMNS)``; ``column_sums_at`` at ``(COLUMNS,)``.
    Bits past `end` are not read; planes are, up to a multiple of `INNER`. The part that starts at
    byte 0 takes the column sums off, so that parts add up to the whole. `first` is a multiple of
    `INNER`. `PACKED` is for `gpu.bitmm.packed`.
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
    for at in range(first, end, INNER):
        x = tl.load(bits_at + at, mask=(k < end - at)[None, :], other=0)
        u = plane_at + at
        a0 = tl.dot(masked(x, 1, PACKED), tl.load(u), acc=a0)
        a1 = tl.dot(masked(x, 2, PACKED), tl.load(u + plane_stride), acc=a1)
        a2 = tl.dot(masked(x, 4, PACKED), tl.load(u + 2 * plane_stride), acc=a2)
        a3 = tl.dot(masked(x, 8, PACKED), tl.load(u + 3 * plane_stride), acc=a3)
        a4 = tl.dot(masked(x, 16, PACKED), tl.load(u + 4 * plane_stride), acc=a4)
        a5 = tl.dot(masked(x, 32, PACKED), tl.load(u + 5 * plane_stride), acc=a5)
        a6 = tl.dot(masked(x, 64, PACKED), tl.load(u + 6 * plane_stride), acc=a6)
        a7 = tl.dot(masked(x, -128, PACKED), tl.load(u + 7 * plane_stride), acc=a7)
    total = a0 + (a1 >> 1) + (a2 >> 2) + (a3 >> 3) + (a4 >> 4) + (a5 >> 5) + (a6 >> 6) - (a7 >> 7)
    return 2 * total - tl.where(first == 0, tl.load(column_sums_at), 0)[None, :]


@triton.jit  # type: ignore[untyped-decorator]
def bitmm_kernel(  # type: ignore[no-untyped-def]
    bits,
    planes,
    column_sums,
    out,
    rows,
    columns,
    column_tiles,
    row_bytes,
    part_bytes,
    row_stride,
    column_stride,
    plane_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    PACKED: tl.constexpr,
    SPLIT: tl.constexpr,
):
    # programs of the same rows are neighbours, so that a row of bits comes from memory once
    tile = tl.program_id(0)
    r = tile // column_tiles * ROWS + tl.arange(0, ROWS)
    n = tile % column_tiles * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, INNER)
    # what is past the end reads the last row or column, so nothing new, and is not stored
    bits_at = bits + tl.minimum(r, rows - 1)[:, None] * row_stride + k[None, :]
    column = tl.minimum(n, columns - 1)
    plane_at = planes + k[:, None] + column[None, :] * column_stride
    first = tl.program_id(1) * part_bytes
    end = tl.minimum(first + part_bytes, row_bytes)
    total = one_bit_tile(
        bits_at,
        plane_at,
        column_sums + column,
        first,
        end,
        plane_stride,
        ROWS,
        COLUMNS,
        INNER,
        PACKED,
    )
    inside = (r < rows)[:, None] & (n < columns)[None, :]
    out_at = out + r[:, None] * columns + n[None, :]
    if SPLIT:
        tl.atomic_add(out_at, total, mask=inside, sem="relaxed")
    else:
        tl.store(out_at, total, mask=inside)


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


def packed(device: torch.device) -> bool:
    """Whether `device` needs the kernels' inline form: NVIDIA's sm_80 (A100)."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device) < (8, 6)


def multiply(
    run: Run,
    bits: torch.Tensor,
    planes: torch.Tensor,
    column_sums: torch.Tensor,
    columns: int,
    tile: Tile,
    splits: int = 1,
) -> torch.Tensor:
    """Rows of bits times the first `columns` columns of digits.

    Args:
        run: turns a decorated kernel into what is launched.
        bits: int8 ``(R, row_bytes)``, bytes of a row adjacent, rows any distance apart; fastest
            where that and `row_bytes` are multiples of 16, what one load brings.
        planes: int8 ``(8, N', Kb')`` and column_sums: int32 ``(N',)``, of `digit_planes`: zero
            from K to the end, which is a multiple of ``tile.inner`` from `row_bytes` up.
        columns: N, at most N'.
        tile: how the work is cut; never shows in the result.
        splits: into how many parts K is split at most; never shows in the result.

    Returns:
        int32 ``(R, N)``.

    Raises:
        LiftError: planes do not fit the bits or the tile, or there are too few columns or splits.
    """
    rows, row_bytes = bits.shape
    steps = -(-row_bytes // tile.inner)
    if planes.shape[0] != 8 or planes.stride(2) != 1 or planes.shape[2] < steps * tile.inner:
        raise LiftError(
            f"planes of shape {tuple(planes.shape)} for rows of {row_bytes} bytes; need "
            f"(8, N', {steps * tile.inner} or more), the last adjacent, for a step of {tile.inner}"
        )
    if bits.stride(1) != 1:
        raise LiftError(f"bytes of a row are {bits.stride(1)} apart; they must be adjacent")
    if not 1 <= columns <= planes.shape[1]:
        raise LiftError(f"{columns} columns of planes of {planes.shape[1]}; give 1 up to that")
    if splits < 1:
        raise LiftError(f"{splits} splits of K; give 1 or more")
    largest = max(rows * columns, rows * abs(bits.stride(0)), 8 * abs(planes.stride(0)))
    if largest > MAX_ELEMENTS:
        raise LiftError(
            f"a product of {rows} rows of {row_bytes} bytes by {columns} columns is over "
            f"{MAX_ELEMENTS} elements, which is as far as 32-bit indices reach; take fewer tokens"
        )
    if planes.device != bits.device:
        raise LiftError(
            f"bits are on {bits.device} and planes on {planes.device}; move them to one device"
        )
    part_steps = -(-steps // splits)
    parts = -(-steps // part_steps)
    new = torch.zeros if parts > 1 else torch.empty
    out = new((rows, columns), dtype=torch.int32, device=bits.device)
    column_tiles = -(-columns // tile.columns)
    run(bitmm_kernel)[(-(-rows // tile.rows) * column_tiles, parts)](
        bits,
        planes,
        column_sums,
        out,
        rows,
        columns,
        column_tiles,
        row_bytes,
        part_steps * tile.inner,
        bits.stride(0),
        planes.stride(1),
        planes.stride(0),
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        INNER=tile.inner,
        PACKED=packed(bits.device),
        SPLIT=parts > 1,
        num_warps=tile.warps,
        num_stages=tile.stages,
        enable_fp_fusion=False,  # nothing to fuse; Triton warns where it is left open
    )
    return out


def launch(
    run: Run, words: torch.Tensor, digits: torch.Tensor, tile: Tile, splits: int = 1
) -> torch.Tensor:
    """The product of packed words int32 or uint32 ``(R, W)`` and plain digits int8 ``(K, N)``."""
    bits = as_int32(words).view(torch.int8)
    planes, column_sums = digit_planes(digits, bits.shape[1], tile)
    return multiply(run, bits, planes, column_sums, digits.shape[1], tile, splits)


def jobs() -> list[KernelJob]:
    """The one-bit product in every tile; in the default ones also with K split."""
    kinds = (
        (NVIDIA_TILES, ("sm_89", "sm_90", "sm_100"), False),
        (NVIDIA_TILES, ("sm_80",), True),
        (GROUP_TILES, ("sm_90", "sm_100"), False),
        (AMD_TILES, ("gfx942",), False),
    )
    return [
        _job(tile, targets, inline, split)
        for tiles, targets, inline in kinds
        for tile in tiles
        for split in (False, True)
        if not split or tile in DEFAULTS
    ]


def _job(tile: Tile, targets: tuple[str, ...], inline: bool, split: bool) -> KernelJob:
    pointers = {"bits": "*i8", "planes": "*i8", "column_sums": "*i32", "out": "*i32"}
    extents = dict.fromkeys(("rows", "columns", "column_tiles"), "i32")
    aligned = ("row_bytes", "part_bytes", "row_stride", "column_stride", "plane_stride")
    shape = {"ROWS": tile.rows, "COLUMNS": tile.columns, "INNER": tile.inner}
    size = f"{tile.rows}x{tile.columns}x{tile.inner}"
    kind = "-packed" if inline else "-amd" if targets == ("gfx942",) else ""
    return KernelJob(
        kernel=f"bitmm-{size}{kind}" + ("-split" if split else ""),
        code="any",
        function=bitmm_kernel,
        signature=pointers | extents | dict.fromkeys(aligned, "i32"),
        constants={**shape, "PACKED": inline, "SPLIT": split},
        aligned=(*pointers, *aligned),
        options={"num_warps": tile.warps, "num_stages": tile.stages},
        work=Work(unit="bit", per_trip=8 * tile.rows * tile.inner, columns=tile.columns),
        batch_one=tile in (tile_for(1), tile_for(1, amd=True)),
        targets=targets,
    )
