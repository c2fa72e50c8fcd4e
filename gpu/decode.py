"""The decode kernel: packed streams to integer weights.

One program decodes `BLOCK` groups, counted across the streams, so that short streams fill it too.
The taps of a weight are the same for the whole block and are read once per program; each thread
then spends two instructions on a bit. Compiled offline and run under the interpreter; not run on a
GPU.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from gpu.job import KernelJob, Work
from gpu.tables import CodeTables, as_int32

BLOCK = 512
WARPS = 4


@triton.jit  # type: ignore[untyped-decorator]
def decode_kernel(  # type: ignore[no-untyped-def]
    words,
    taps,
    starts,
    parities,
    out,
    groups,
    total,
    row_words,
    LIFTED: tl.constexpr,
    GROUP: tl.constexpr,
    WINDOW: tl.constexpr,
    PARITIES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    flat = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = flat < total
    stream = flat // groups
    first_bit = (flat - stream * groups) * LIFTED
    row = words + stream * row_words
    for i in range(GROUP):
        bit = first_bit + tl.load(starts + i)
        at = row + (bit >> 5)
        low = tl.load(at, mask=inside, other=0).to(tl.uint32, bitcast=True)
        high = tl.load(at + 1, mask=inside, other=0).to(tl.uint32, bitcast=True)
        shift = (bit & 31).to(tl.uint32)
        # two shifts for the upper word, because a shift by 32 is undefined
        window = (low >> shift) | ((high << 1) << (31 - shift))
        tap_row = taps + i * (WINDOW + PARITIES)
        # sum(tap * (2b - 1)) as 2 * sum(tap * b) - sum(tap); the last term is one per block
        picked = tl.full((BLOCK,), 0, tl.int32)
        tap_sum = tl.load(tap_row).to(tl.int32) * 0
        for j in tl.static_range(WINDOW):
            tap = tl.load(tap_row + j).to(tl.int32)
            tap_sum += tap
            picked += ((window >> j) & 1).to(tl.int32) * tap
        acc = 2 * picked - tap_sum
        for m in range(PARITIES):
            # a product of signs is -1 where an odd number of the named bits is 0
            odd = (~window) & tl.load(parities + m).to(tl.uint32, bitcast=True)
            odd = odd ^ (odd >> 16)
            odd = odd ^ (odd >> 8)
            odd = odd ^ (odd >> 4)
            odd = (0x6996 >> (odd & 15)) & 1  # bit n of 0x6996 is the parity of n
            acc += (1 - 2 * odd.to(tl.int32)) * tl.load(tap_row + WINDOW + m).to(tl.int32)
        tl.store(out + flat * GROUP + i, acc.to(out.dtype.element_ty), mask=inside)


def launch(
    kernel: Any,
    words: torch.Tensor,
    tables: CodeTables,
    groups: int,
    dtype: torch.dtype,
    block: int = BLOCK,
) -> torch.Tensor:
    """Run `kernel` (`decode_kernel` or its interpreted form) on checked arguments."""
    taps, starts, parities, lifted, _ = tables
    words = as_int32(words)
    streams, group = words.shape[0], taps.shape[0]
    total = streams * groups
    out = torch.empty((streams, groups * group), dtype=dtype, device=words.device)
    kernel[(-(-total // block),)](
        words,
        taps.contiguous(),
        starts.contiguous(),
        # a pointer must point somewhere, even if the loop over it never turns
        parities.contiguous() if parities.numel() else starts,
        out,
        groups,
        total,
        words.shape[1],
        LIFTED=lifted,
        GROUP=group,
        WINDOW=taps.shape[1] - parities.shape[0],
        PARITIES=parities.shape[0],
        BLOCK=block,
        num_warps=WARPS,
        enable_fp_fusion=False,  # nothing to fuse; Triton warns where it is left open
    )
    return out


def decode_codes() -> dict[str, tuple[int, int, int, int]]:
    """D, d, L and P of the reference codes.

    The taps are data, so these four numbers are all that a decoder's machine code depends on.
    """
    from algo.shipped import REFERENCE, load_code

    codes = {name: load_code(name) for name in REFERENCE}
    return {n: (c.lifted, c.group, c.window, len(c.parities)) for n, c in codes.items()}


def jobs() -> list[KernelJob]:
    """The decode kernel for every code of `decode_codes` and both output types."""
    listed = []
    for code, (lifted, group, window, parities) in decode_codes().items():
        for name, element in (("int16", "*i16"), ("float16", "*fp16")):
            pointers = {
                "words": "*i32",
                "taps": "*i8",
                "starts": "*i32",
                "parities": "*i32",
                "out": element,
            }
            listed.append(
                KernelJob(
                    kernel=f"decode-{name}",
                    code=code,
                    function=decode_kernel,
                    signature=pointers | dict.fromkeys(("groups", "total", "row_words"), "i32"),
                    constants={
                        "LIFTED": lifted,
                        "GROUP": group,
                        "WINDOW": window,
                        "PARITIES": parities,
                        "BLOCK": BLOCK,
                    },
                    aligned=tuple(pointers),
                    options={"num_warps": WARPS},
                    work=Work(unit="weight", per_trip=BLOCK, stored_bytes=2 * BLOCK),
                )
            )
    return listed
