"""Activations made ready for the one-bit product: whitened, quantised, lifted, in planes.

Layers that read the same activations share the result: those of axis ``out`` that have one
whitening, those of axis ``in`` that have one code, too. Three launches: two of the whitening, and
one that quantises (axis ``out``) or quantises and lifts (axis ``in``). To the device nothing is an
error: a token that holds NaN or infinity has the step NaN and zero digits, where the reference of
the contract raises.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from algo.activations import BASE, quantise_activations
from algo.activations import Digits as DigitCount
from algo.errors import LiftError
from algo.lifted import LIFTED_BASE, Int64Array, from_digits, signed_digits
from algo.whitening import ordered_transform
from gpu.planes import Digits, laid_out, planes_shape
from gpu.tiles import Tile

if TYPE_CHECKING:  # which would import triton
    from gpu.interpret import Run
    from gpu.lift import LiftTables
    from gpu.whiten import Block as WhitenBlock
    from gpu.whitening_tensors import WhiteningTensors


class Blocks(NamedTuple):
    """Shapes of programs: of the whitening, and bytes of a token's rows in the last launch."""

    whiten: "WhitenBlock"
    bytes: int


_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def prepare(
    run: "Run",
    x: torch.Tensor,
    whitening: "WhiteningTensors",
    digits: DigitCount,
    tables: "LiftTables | None",
    tile: Tile,
    blocks: Blocks | None = None,
) -> Digits:
    """The digits of `x` by the kernels.

    Args:
        run: what turns a kernel into what is launched.
        x: ``(tokens, n)``, float32, float16 or bfloat16; rows at any distance.
        whitening: `gpu.whitening_tensors.whitening_tensors`, on the same device.
        digits: 1 (a8) or 2 (a15), of the activations before they are lifted.
        tables: `gpu.lift.lift_tables` of the code for axis ``in``; None for axis ``out``.
        tile: padding goes up to its whole columns and bytes; columns a power of two.
        blocks: chosen by size if None; `large_blocks` where the interpreter runs.

    Raises:
        LiftError: a shape, dtype or device does not fit, or the result is longer than 32-bit
            indices reach.
    """
    from gpu.lift import BLOCK, lift
    from gpu.quantise import Block, quantise
    from gpu.whiten import whiten

    per_token, inner = _width(x, whitening, digits, tables)
    tokens = len(x)
    shape = planes_shape(tokens * per_token, inner, tile)
    # what has to be zero before digits are summed and maxima taken, in one piece
    zeros = torch.empty(shape[1] + tokens, dtype=torch.int32, device=x.device)
    sums, largest = zeros[: shape[1]], zeros[shape[1] :]
    out = Digits(
        torch.empty(shape, dtype=torch.int8, device=x.device),
        sums,
        torch.empty(tokens, dtype=torch.float32, device=x.device),
        per_token,
    )
    if tokens:
        whitened = whiten(run, x, whitening, zeros, largest, blocks and blocks.whiten)
        block = blocks and Block(blocks.bytes, warps=4)
        if tables is None:
            quantise(run, whitened, largest, out, block)
        else:
            lift(run, whitened, largest, tables, digits, out, block or BLOCK)
    return out


def large_blocks(tokens: int, n: int) -> Blocks:
    """Few programs of many elements, for the interpreter, which takes its time per program."""
    from gpu.whiten import FEW

    rows = min(1024, 1 << (tokens * n - 1).bit_length())
    return Blocks(FEW._replace(parts=4, rows=rows), min(1024, 1 << (n - 1).bit_length()))


def prepare_plainly(
    x: torch.Tensor,
    whitening: "WhiteningTensors",
    digits: DigitCount,
    tables: "LiftTables | None",
    tile: Tile,
) -> Digits:
    """`prepare` in plain torch on the CPU, by the reference's own functions."""
    per_token, inner = _width(x, whitening, digits, tables)
    planes_shape(len(x) * per_token, inner, tile)
    left, right, pre = whitening
    whitened = ordered_transform(x, left.T, right[:, : len(right)], pre)
    finite = torch.isfinite(whitened).all(dim=1)
    parts, step = quantise_activations(torch.where(finite[:, None], whitened, 0.0), digits)
    step = torch.where(finite, step, torch.nan)
    if tables is not None:
        lifted = _lifted(from_digits(parts.numpy(), BASE), tables)
        parts = torch.from_numpy(signed_digits(lifted, LIFTED_BASE, per_token))
    return laid_out(parts, step, tile)


def _lifted(integers: Int64Array, tables: "LiftTables") -> Int64Array:
    weights = tables.groups * tables.group
    padded = np.zeros((len(integers), weights), np.int64)
    padded[:, : tables.columns] = integers
    first = np.arange(tables.groups)[:, None] * tables.group
    out = np.zeros((len(integers), tables.groups, tables.lifted), np.int64)
    for place, tap in zip(tables.places.T.numpy(), tables.taps.T.numpy(), strict=True):
        out += padded[:, (first + place) % weights] * tap
    return out.reshape(len(integers), tables.groups * tables.lifted)


def _width(
    x: torch.Tensor,
    whitening: "WhiteningTensors",
    digits: DigitCount,
    tables: "LiftTables | None",
) -> tuple[int, int]:
    """Columns of a token and inner indices of a column, of checked arguments."""
    n = len(whitening.left) * len(whitening.right)
    if x.ndim != 2 or x.shape[1] != n or x.dtype not in _DTYPES:
        raise LiftError(
            f"activations are {x.dtype} of shape {tuple(x.shape)}; need (tokens, {n}) in float32, "
            "float16 or bfloat16"
        )
    if digits not in (1, 2):
        raise LiftError(f"digits={digits} is neither 1 (a8) nor 2 (a15)")
    devices = {t.device for t in (x, *whitening, *(tables or ())[:2]) if t is not None}
    if len(devices) > 1:
        raise LiftError(
            f"activations, whitening and tables are on {' and '.join(sorted(map(str, devices)))}; "
            "move them to one device"
        )
    if tables is None:
        return digits, n
    if tables.columns != n:
        raise LiftError(
            f"lifting tables are for {tables.columns} activations, not {n}; make them for the layer"
        )
    return tables.per_token[digits - 1], tables.groups * tables.lifted
