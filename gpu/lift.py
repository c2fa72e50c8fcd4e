"""Lifted activations: what every stream bit of an axis ``in`` layer is worth to a token.

The transpose of the projection (`algo.lifted.lift`), exact in int32, in signed digits of base 256.
Bit n of the stream is bit ``p = n mod D`` of group ``n div D``, and the windows that hold it, with
the taps it has in them, are the same for all groups: a short table for each p. One kernel serves
all codes, since the tables are data. A program makes the integers of the activations it needs out
of the whitened ones itself: each is needed by few bits, and a launch is saved.

Compiled offline and run under the interpreter; not run on a GPU.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from algo.activations import LARGEST
from algo.activations import Digits as DigitCount
from algo.code import LiftCode
from algo.lifted import bounds
from algo.packing import stream_groups
from gpu.interpret import Run
from gpu.job import KernelJob
from gpu.planes import Digits
from gpu.quantise import FEW, Block, nearest_integers, store_digit, token_step

BLOCK = FEW  # for any number of tokens; wider programs run out of registers


class LiftTables(NamedTuple):
    """The windows around each bit of a group.

    Attributes:
        places: int32 ``(D, T)``: bit p of group g is in the window of weight ``g*d + places[p, t]``
            of the stream, which wraps round; T covers the bit that is in most windows.
        taps: int32 ``(D, T)``, the bit's tap there; 0 where there are fewer than T windows.
        lifted: D.
        group: d.
        groups: G, groups of a stream.
        columns: weights of a stream without those that pad its last group.
        per_token: columns of a token's lifted digits in a8 and in a15, as many as the largest
            lifted integer needs, three padded to four.
    """

    places: torch.Tensor
    taps: torch.Tensor
    lifted: int
    group: int
    groups: int
    columns: int
    per_token: tuple[int, int]


def lift_tables(code: LiftCode, columns: int, device: torch.device | str = "cpu") -> LiftTables:
    """The tables for streams of `columns` weights, on `device`; make them once and keep them.

    Raises:
        LiftError: the code has parities, streams are too short, or the lifted integers could not
            be told in four digits.
    """
    needed = [bounds((1, columns), code, "in", digits).per_token for digits in (1, 2)]
    windows: list[list[tuple[int, int]]] = [[] for _ in range(code.lifted)]
    for i, start in enumerate(code.starts):
        for j, tap in enumerate(code.window_taps[i].tolist(), start):
            if tap:
                windows[j % code.lifted].append((i - j // code.lifted * code.group, tap))
    most = max(1, *(len(held) for held in windows))
    padded = torch.tensor([held + [(0, 0)] * (most - len(held)) for held in windows])
    places, taps = padded.to(torch.int32).to(device).unbind(2)
    return LiftTables(
        places.contiguous(),
        taps.contiguous(),
        code.lifted,
        code.group,
        stream_groups(columns, code),
        columns,
        (needed[0], needed[1]),
    )


@triton.jit  # type: ignore[untyped-decorator]
def lift_kernel(  # type: ignore[no-untyped-def]
    w,
    largest,
    places,
    taps,
    planes,
    sums,
    steps,
    tokens,
    inner,
    row_bytes,
    plane_stride,
    bits,
    lifted,
    group,
    stream_weights,
    windows,
    LARGEST: tl.constexpr,
    PER_TOKEN: tl.constexpr,
    BYTES: tl.constexpr,
):
    blocks = tl.cdiv(row_bytes, BYTES)
    token = tl.program_id(0) // blocks
    block = tl.program_id(0) - token * blocks
    byte = block * BYTES + tl.arange(0, BYTES)
    n = byte[:, None] * 8 + tl.arange(0, 8)[None, :]
    real = token < tokens
    step = token_step(tl.load(largest + token, mask=real, other=0), LARGEST)
    first = n // lifted
    table = (n - first * lifted) * windows
    inside = n < tl.where(real, bits, 0)  # a token that pads a tile is zeros
    y = tl.full((BYTES, 8), 0, tl.int32)
    for t in range(windows):
        place = first * group + tl.load(places + table + t)
        place += tl.where(place < 0, stream_weights, 0)
        held = tl.load(w + token * inner + place, mask=inside & (place < inner), other=0.0)
        y += tl.load(taps + table + t) * nearest_integers(held, step, LARGEST)
    for k in tl.static_range(PER_TOKEN):
        upper = (y + 128) >> 8
        digit = y - (upper << 8)
        column = token * PER_TOKEN + k
        store_digit(planes, sums, digit, column, byte, row_bytes, plane_stride, real)
        y = upper
    tl.store(steps + token, step, mask=real & (block == 0))


def lift(
    run: Run,
    w: torch.Tensor,
    largest: torch.Tensor,
    tables: LiftTables,
    digits: DigitCount,
    out: Digits,
    block: Block = BLOCK,
) -> None:
    """Fill `out` with the lifted digits of `w`, in one launch.

    Args:
        run: what turns the kernel into what is launched.
        w: float32 ``(tokens, columns)``, contiguous.
        largest: int32 ``(tokens,)``, the bits of each token's largest magnitude.
        tables: of the layer's code.
        digits: of the activations before they are lifted, 1 (a8) or 2 (a15).
        out: sums are zero; as many columns per token as the lifted integers need.
        block: shape of a program.
    """
    (tokens, inner), (_, columns, row_bytes) = w.shape, out.planes.shape
    run(lift_kernel)[(columns // out.per_token * -(-row_bytes // block.bytes),)](
        w,
        largest,
        tables.places,
        tables.taps,
        out.planes,
        out.sums,
        out.step,
        tokens,
        inner,
        row_bytes,
        columns * row_bytes,
        tables.groups * tables.lifted,
        tables.lifted,
        tables.group,
        tables.groups * tables.group,
        tables.places.shape[1],
        LARGEST=LARGEST[digits],
        PER_TOKEN=out.per_token,
        BYTES=block.bytes,
        num_warps=block.warps,
        enable_fp_fusion=False,  # what is left of a quotient is exact
    )


def jobs() -> list[KernelJob]:
    """One and two digits, and the columns per token that shipped codes need."""
    pointers = {"w": "*fp32", "largest": "*i32", "places": "*i32", "taps": "*i32"}
    pointers |= {"planes": "*i8", "sums": "*i32", "steps": "*fp32"}
    strides = ("inner", "row_bytes", "plane_stride")
    sizes = ("tokens", "bits", "lifted", "group", "stream_weights", "windows")
    return [
        KernelJob(
            kernel=f"lift-{digits}-{per_token}",
            code="any",
            function=lift_kernel,
            signature=pointers | dict.fromkeys((*strides, *sizes), "i32"),
            constants={"LARGEST": largest, "PER_TOKEN": per_token, "BYTES": BLOCK.bytes},
            aligned=(*pointers, *strides),
            options={"num_warps": BLOCK.warps},
        )
        for digits, largest in LARGEST.items()
        for per_token in ((2, 4) if digits == 1 else (4,))
    ]
