"""Whitened activations to int8 digits, laid out for the one-bit product.

Exactly the integers of `algo.activations.quantise_activations`, without float64, whose rate is 1/64
on most GPUs and whose division would cost more than the rest. A quotient ``w / step`` is estimated
in float32, to well within 1/4; its nearest integer q is then the right one, or the next to it where
the quotient is near a half. What is left, ``d = w - q * step``, decides, and float32 holds it
exactly: step is cut into three pieces of 8 bits, whose products with q (below 2**15) have at most
23, and what remains after each subtraction is a multiple of the last place of step or w, and too
small to need more than 24 bits of it. (Where w is in a binade below step's, q is 0, which leaves w,
or 1, with which d can only be rounded where it is beyond a half anyway.) So ``2|d| > step`` moves q
by one, and a tie moves it if it is odd.

Compiled offline and run under the interpreter; not run on a GPU.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from algo.activations import LARGEST
from gpu.interpret import Run
from gpu.job import KernelJob
from gpu.planes import Digits


class Block(NamedTuple):
    """Bytes of one token's rows, of eight digits each, per program, and its warps."""

    bytes: int
    warps: int


FEW = Block(bytes=32, warps=1)  # many programs from a single token
MANY = Block(bytes=128, warps=1)  # what is done per program is shared by more digits
MANY_TOKENS = 16


@triton.jit  # type: ignore[untyped-decorator]
def token_step(bits, LARGEST: tl.constexpr):  # type: ignore[no-untyped-def]
    """A token's step from the bits of its largest magnitude; NaN if that is no finite number."""
    amax = bits.to(tl.float32, bitcast=True)
    # float64 in between, as in the reference, makes no difference: a quotient by so short a number
    # is no nearer to a tie than 2**-39 of itself
    step = tl.div_rn(amax, LARGEST * 1.0)
    return tl.where(bits < 0x7F800000, tl.where(step > 0, step, 1.0), float("nan"))


@triton.jit  # type: ignore[untyped-decorator]
def nearest_integers(w, step, LARGEST: tl.constexpr):  # type: ignore[no-untyped-def]
    """int32 ``w / step``, rounded half to even, within +-`LARGEST`; 0 where `step` is NaN.

    ``|w| <= step * LARGEST`` up to the rounding of step.
    """
    up = tl.where(step < 2.0**-100, 2.0**64, 1.0)  # so that nothing below is subnormal
    w = w * up
    unit = step * up
    high = (unit.to(tl.int32, bitcast=True) & -65536).to(tl.float32, bitcast=True)
    rest = unit - high
    middle = (rest.to(tl.int32, bitcast=True) & -65536).to(tl.float32, bitcast=True)
    shifted = w * (1.0 / unit) + 12582912.0  # 1.5 * 2**23 leaves no places for a fraction
    near = shifted - 12582912.0
    left = w - near * high - near * middle - near * (rest - middle)
    q = shifted.to(tl.int32, bitcast=True) - 0x4B400000  # the bits of 1.5 * 2**23
    twice = tl.abs(left) * 2
    beyond = (twice > unit) | ((twice == unit) & ((q & 1) == 1))
    q += tl.where(beyond, tl.where(left > 0, 1, -1), 0)
    q = tl.minimum(tl.maximum(q, -LARGEST), LARGEST)
    return tl.where(step > 0, q, 0)


@triton.jit
def store_digit(planes, sums, digit, column, byte, row_bytes, plane_stride, real):  # type: ignore[no-untyped-def]
    """One digit of ``(bytes, 8)`` inner indices into its column, and what it adds to the sum.

    A column that pads a tile (`real` is false) is zero already in `sums`.
    """
    s = tl.arange(0, 8)
    at = planes + column * row_bytes + byte[:, None] + (s * plane_stride)[None, :]
    tl.store(at, digit.to(tl.int8), mask=(byte < row_bytes)[:, None])
    tl.atomic_add(sums + column, tl.sum(tl.sum(digit, axis=1), axis=0), mask=real, sem="relaxed")


@triton.jit  # type: ignore[untyped-decorator]
def quantise_kernel(  # type: ignore[no-untyped-def]
    w,
    largest,
    planes,
    sums,
    steps,
    tokens,
    inner,
    row_bytes,
    plane_stride,
    LARGEST: tl.constexpr,
    PER_TOKEN: tl.constexpr,
    BYTES: tl.constexpr,
):
    blocks = tl.cdiv(row_bytes, BYTES)
    token = tl.program_id(0) // blocks
    block = tl.program_id(0) - token * blocks
    byte = block * BYTES + tl.arange(0, BYTES)
    e = byte[:, None] * 8 + tl.arange(0, 8)[None, :]
    real = token < tokens
    step = token_step(tl.load(largest + token, mask=real, other=0), LARGEST)
    held = tl.where(real, inner, 0)  # a token that pads a tile is zeros
    values = tl.load(w + token * inner + e, mask=e < held, other=0.0)
    q = nearest_integers(values, step, LARGEST)
    column = token * PER_TOKEN
    if PER_TOKEN == 2:
        upper = (q + 64) >> 7
        q -= upper << 7
        store_digit(planes, sums, upper, column + 1, byte, row_bytes, plane_stride, real)
    store_digit(planes, sums, q, column, byte, row_bytes, plane_stride, real)
    tl.store(steps + token, step, mask=real & (block == 0))


def quantise(
    run: Run, w: torch.Tensor, largest: torch.Tensor, out: Digits, block: Block | None = None
) -> None:
    """Fill `out` with the digits of `w`, in one launch.

    Args:
        run: what turns the kernel into what is launched.
        w: float32 ``(tokens, K)``, contiguous.
        largest: int32 ``(tokens,)``, the bits of each token's largest magnitude.
        out: sums are zero; 1 (a8) or 2 (a15) columns per token.
        block: shape of a program; chosen by the number of tokens if None.
    """
    (tokens, inner), (_, columns, row_bytes) = w.shape, out.planes.shape
    block = block or (FEW if tokens < MANY_TOKENS else MANY)
    run(quantise_kernel)[(columns // out.per_token * -(-row_bytes // block.bytes),)](
        w,
        largest,
        out.planes,
        out.sums,
        out.step,
        tokens,
        inner,
        row_bytes,
        columns * row_bytes,
        LARGEST=LARGEST[1 if out.per_token == 1 else 2],
        PER_TOKEN=out.per_token,
        BYTES=block.bytes,
        num_warps=block.warps,
        enable_fp_fusion=False,  # what is left of a quotient is exact
    )


def jobs() -> list[KernelJob]:
    """One and two digits, in both block sizes."""
    pointers = {"w": "*fp32", "largest": "*i32", "planes": "*i8", "sums": "*i32", "steps": "*fp32"}
    return [
        KernelJob(
            kernel=f"quantise-{digits}-{name}",
            code="any",
            function=quantise_kernel,
            signature=pointers
            | dict.fromkeys(("tokens", "inner", "row_bytes", "plane_stride"), "i32"),
            constants={"LARGEST": largest, "PER_TOKEN": digits, "BYTES": block.bytes},
            aligned=(*pointers, "inner", "row_bytes", "plane_stride"),
            options={"num_warps": block.warps},
        )
        for digits, largest in LARGEST.items()
        for name, block in (("few", FEW), ("many", MANY))
    ]
