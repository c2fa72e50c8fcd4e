"""From the one-bit product's sums to a stack's outputs.

A program takes `OUTPUTS` outputs of one segment and `TOKENS` tokens: the taps of each output times
the sums of its window's bits, wrapping round, for every digit; the digits together; the row's scale
times the token's step with one rounding to float32; the bias in float32; the cast. Integers are in
int64, because 32 by 32 bits added to 64 is one instruction. Window lengths, groups and taps are
data, so that one compiled kernel serves every code, and axis ``in`` is the code of one tap.
Compiled offline and run under the interpreter; not run on a GPU.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from algo.errors import LiftError
from gpu.interpret import Run
from gpu.job import KernelJob
from gpu.stack import Stack
from gpu.tables import MAX_ELEMENTS

DTYPES = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16"}


class Tile(NamedTuple):
    """Outputs and tokens of one program, and its warps."""

    outputs: int
    tokens: int
    warps: int


NARROW = Tile(outputs=128, tokens=1, warps=4)  # decoding: a thread for an output
WIDE = Tile(outputs=32, tokens=16, warps=4)


@triton.jit
def rounded_once(a, b):  # type: ignore[no-untyped-def]
    """float32 of ``a * b`` as if the product were exact, `algo.activations.product_rounded_once`.

    `a` is float64; `b` is float64 of at most 26 significant bits, so that only `a` is split. What
    the float64 product lost is exact; where it is not zero, the product is made odd in its last
    bit, and the second rounding sees no false tie. No multiply-add may be contracted here. NaN
    stays NaN.
    """
    product = a * b
    shifted = a * 134217729.0  # 2**27 + 1
    high = shifted - (shifted - a)
    lost = (high * b - product) + (a - high) * b
    # in integers, because float64 comparisons are slow where float64 is
    word = product.to(tl.int64, bitcast=True)
    gap = lost.to(tl.int64, bitcast=True)
    # one unit away from zero where what was lost has the product's sign, else towards it
    moved = word + tl.where((gap ^ word) < 0, -1, 1)
    odd = tl.where(((gap << 1) != 0) & ((word & 1) == 0), moved, word)
    return odd.to(tl.float64, bitcast=True).to(tl.float32)


@triton.jit
def finished(combined, scale, step, bias):  # type: ignore[no-untyped-def]
    """float32 outputs of a layer: ``combined * scale * step`` rounded once, plus the bias.

    `combined` is int64 ``(OUTPUTS, TOKENS)`` of at most 45 bits, `scale` and `bias` float32
    ``(OUTPUTS,)``, `step` float32 ``(TOKENS,)``. A scale has 8 bits, so its product is exact.
    """
    exact = combined.to(tl.float64) * scale.to(tl.float64)[:, None]
    return rounded_once(exact, step.to(tl.float64)[None, :]) + bias[:, None]


@triton.jit  # type: ignore[untyped-decorator]
def narrowed(y, DTYPE: tl.constexpr):  # type: ignore[no-untyped-def]
    """float32 in `DTYPE`, rounded half to even.

    To bfloat16 by its bits: the interpreter's cast does not round. NaN stays NaN.
    """
    if tl.bfloat16 == DTYPE:
        word = y.to(tl.uint32, bitcast=True)
        rounded = word + (0x7FFF + ((word >> 16) & 1))
        word = tl.where((word & 0x7FFFFFFF) > 0x7F800000, 0x7FC00000, rounded)
        return (word >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    return y.to(DTYPE)


@triton.jit  # type: ignore[untyped-decorator]
def project_kernel(  # type: ignore[no-untyped-def]
    sums,
    programs,
    taps,
    starts,
    scales,
    bias,
    steps,
    out,
    tokens,
    sum_stride,
    out_stride,
    OUTPUTS: tl.constexpr,
    TOKENS: tl.constexpr,
    DIGITS: tl.constexpr,
    PER_TOKEN: tl.constexpr,
    BASE: tl.constexpr,
):
    row = programs + tl.program_id(0) * 10
    first_bit = tl.load(row)
    bits = tl.load(row + 1)
    lifted = tl.load(row + 2)
    group = tl.load(row + 3)
    window = tl.load(row + 4)
    first_output = tl.load(row + 5)
    outputs = tl.load(row + 6)
    taps += tl.load(row + 7)
    starts += tl.load(row + 8)
    own = tl.load(row + 9) + tl.arange(0, OUTPUTS)
    t = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    inside = own < outputs
    weight = tl.where(inside, own, 0)
    g = weight // group
    i = weight - g * group
    start = g * lifted + tl.load(starts + i)
    tap_at = taps + i * window
    sum_at = sums + first_bit * sum_stride + t[None, :] * PER_TOKEN
    present = inside[:, None] & (t < tokens)[None, :]
    combined = tl.full((OUTPUTS, TOKENS), 0, tl.int64)
    for k in tl.static_range(DIGITS):
        # from the highest digit down, by Horner's rule
        projected = tl.full((OUTPUTS, TOKENS), 0, tl.int64)
        for j in range(window):
            bit = start + j
            bit = tl.where(bit < bits, bit, bit - bits)
            at = sum_at + (bit * sum_stride)[:, None] + (DIGITS - 1 - k)
            tap = tl.load(tap_at + j).to(tl.int64)[:, None]
            projected += tap * tl.load(at, mask=present, other=0).to(tl.int64)
        combined = combined * BASE + projected
    o = first_output + weight
    step = tl.load(steps + t, mask=t < tokens, other=0.0)
    y = finished(combined, tl.load(scales + o), step, tl.load(bias + o))
    out_at = out + t[None, :] * out_stride + o[:, None]
    tl.store(out_at, narrowed(y, out.dtype.element_ty), mask=present)


def programs(stack: Stack, tile: Tile) -> torch.Tensor:
    """The segment and the first output of every program: int32 ``(programs, 10)``.

    A row is the segment's `gpu.stack.Segment` and the first of its outputs; make it once.
    """
    rows = [
        (*segment, first)
        for segment in stack.rows()
        for first in range(0, segment.outputs, tile.outputs)
    ]
    return torch.tensor(rows, dtype=torch.int32, device=stack.words.device)


def tile_for(tokens: int) -> Tile:
    """The tile for so many tokens."""
    return NARROW if tokens < 4 else WIDE


def launch(
    run: Run,
    stack: Stack,
    table: torch.Tensor,
    sums: torch.Tensor,
    step: torch.Tensor,
    dtype: torch.dtype,
    tile: Tile,
) -> torch.Tensor:
    """Outputs of a stack from its one-bit product.

    Args:
        run: what makes a launchable form of the kernel.
        stack: the layers.
        table: `programs` of the stack and the tile.
        sums: int32 ``(R, N)``, rows of the stack's bits, columns ``token * per_token + digit``;
            N may hold padding columns.
        step: float32 ``(tokens,)``; a token whose step is NaN gives NaN.
        dtype: float32, float16 or bfloat16.
        tile: the tile `table` was made for.

    Returns:
        ``(tokens, outputs)`` of `dtype`.

    Raises:
        LiftError: a shape, dtype or device does not fit.
    """
    tokens = check_step(stack, step, dtype)
    columns = tokens * stack.bounds.per_token
    rows = stack.words.shape[0]
    if sums.dtype != torch.int32 or sums.ndim != 2 or sums.shape[0] != rows:
        raise LiftError(
            f"sums are {sums.dtype} of shape {tuple(sums.shape)}; the stack needs int32 ({rows}, N)"
        )
    if sums.shape[1] < columns or (rows > 1 and sums.stride(0) * rows > MAX_ELEMENTS):
        raise LiftError(
            f"sums of shape {tuple(sums.shape)} do not fit {tokens} tokens of "
            f"{stack.bounds.per_token} columns, or 32-bit indices"
        )
    sums = sums if sums.stride(1) == 1 else sums.contiguous()
    out = torch.empty((tokens, stack.outputs), dtype=dtype, device=sums.device)
    if tokens:
        run(project_kernel)[(table.shape[0], -(-tokens // tile.tokens))](
            sums,
            table,
            stack.taps,
            stack.starts,
            stack.scales,
            stack.bias,
            step.contiguous(),
            out,
            tokens,
            sums.stride(0),
            out.stride(0),
            OUTPUTS=tile.outputs,
            TOKENS=tile.tokens,
            DIGITS=stack.bounds.digits,
            PER_TOKEN=stack.bounds.per_token,
            BASE=stack.bounds.base,
            num_warps=tile.warps,
            enable_fp_fusion=False,  # the rounding depends on it
        )
    return out


def check_step(stack: Stack, step: torch.Tensor, dtype: torch.dtype) -> int:
    """The tokens of a call.

    Raises:
        LiftError: the step is no float32 ``(tokens,)`` on the stack's device, the dtype is none of
            `DTYPES`, or there are more outputs than 32-bit indices reach.
    """
    if dtype not in DTYPES:
        raise LiftError(f"outputs are float32, float16 or bfloat16, not {dtype}")
    if step.dtype != torch.float32 or step.ndim != 1 or step.device != stack.words.device:
        raise LiftError(
            f"steps are {step.dtype} of shape {tuple(step.shape)} on {step.device}; the stack on "
            f"{stack.words.device} needs float32 (tokens,) there"
        )
    if step.shape[0] * stack.outputs > MAX_ELEMENTS:
        raise LiftError(
            f"{step.shape[0]} tokens of {stack.outputs} outputs are over {MAX_ELEMENTS} elements, "
            "which is as far as 32-bit indices reach; split the tokens"
        )
    return step.shape[0]


# per token: digits, columns, base: a8 and a15 on axis out; on axis in with three digits and four
FORMS = {"out-a8": (1, 1, 128), "out-a15": (2, 2, 128), "in-3": (3, 4, 256), "in-4": (4, 4, 256)}


def jobs() -> list[KernelJob]:
    """The projection in both tiles for every form of digits, one output type.

    The type of the output is a conversion at the end; bfloat16 stands for all.
    """
    pointers = {
        "sums": "*i32",
        "programs": "*i32",
        "taps": "*i8",
        "starts": "*i32",
        "scales": "*fp32",
        "bias": "*fp32",
        "steps": "*fp32",
        "out": "*bf16",
    }
    scalars = dict.fromkeys(("tokens", "sum_stride", "out_stride"), "i32")
    return [
        KernelJob(
            kernel=f"project-{form}-{tile.tokens}",
            code="any",
            function=project_kernel,
            signature=pointers | scalars,
            constants={
                "OUTPUTS": tile.outputs,
                "TOKENS": tile.tokens,
                "DIGITS": digits,
                "PER_TOKEN": per_token,
                "BASE": base,
            },
            aligned=tuple(pointers),
            options={"num_warps": tile.warps},
        )
        for form, (digits, per_token, base) in FORMS.items()
        for tile in (NARROW, WIDE)
    ]
