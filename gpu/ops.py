"""The operators torch knows: ``liftquant::decode``, ``liftquant::bitmm``, ``liftquant::linear``.

On CPU tensors decode is plain torch and bitmm counts bits; CUDA and HIP tensors take the Triton
kernels, which are imported only then (compiled, not run on a GPU). To torch.compile all are opaque,
so that no compiler fuses floating-point operations of theirs.
"""

import torch

from algo.matrix import Axis
from gpu import reference
from gpu.linear_op import check_device
from gpu.tables import CodeTables, as_axis, check_bitmm, check_decode


def _on_cpu(words: torch.Tensor) -> bool:
    check_device(words.device)
    return words.device.type == "cpu"


@torch.library.custom_op("liftquant::decode", mutates_args=())
def _decode(
    words: torch.Tensor,
    taps: torch.Tensor,
    starts: torch.Tensor,
    parities: torch.Tensor,
    lifted: int,
    overlap: int,
    cells: torch.Tensor,
    turns: torch.Tensor,
    crossing: torch.Tensor,
    groups: int,
    dtype: torch.dtype,
    weights: int | None = None,
    axis: str = "in",
    scales: torch.Tensor | None = None,
) -> torch.Tensor:
    tables = CodeTables(taps, starts, parities, lifted, overlap, cells, turns, crossing)
    along = as_axis(axis)
    check_decode(words, tables, groups, dtype, weights, along, scales)
    kept = groups * taps.shape[0] if weights is None else weights
    if _on_cpu(words):
        return reference.decode(words, tables, groups, dtype, kept, along, scales)
    from gpu.decode import decode_kernel, launch

    with torch.cuda.device(words.device):
        return launch(decode_kernel, words, tables, dtype, kept, along, scales)


@_decode.register_fake
def _(
    words: torch.Tensor,
    taps: torch.Tensor,
    starts: torch.Tensor,
    parities: torch.Tensor,
    lifted: int,
    overlap: int,
    cells: torch.Tensor,
    turns: torch.Tensor,
    crossing: torch.Tensor,
    groups: int,
    dtype: torch.dtype,
    weights: int | None = None,
    axis: str = "in",
    scales: torch.Tensor | None = None,
) -> torch.Tensor:
    tables = CodeTables(taps, starts, parities, lifted, overlap, cells, turns, crossing)
    shape = check_decode(words, tables, groups, dtype, weights, as_axis(axis), scales)
    return words.new_empty(shape, dtype=dtype)


@torch.library.custom_op("liftquant::bitmm", mutates_args=())
def _bitmm(words: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
    _, columns = check_bitmm(words, digits)
    if _on_cpu(words):
        from gpu.cpu import bitmm as counting

        return counting.bitmm(words, digits)
    from gpu.bitmm import launch
    from gpu.interpret import as_is
    from gpu.tiles import default_tile

    with torch.cuda.device(words.device):
        return launch(as_is, words, digits, default_tile(words.device, columns))


@_bitmm.register_fake
def _(words: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
    return words.new_empty(check_bitmm(words, digits), dtype=torch.int32)


def decode(
    words: torch.Tensor,
    tables: CodeTables,
    groups: int,
    dtype: torch.dtype = torch.int16,
    weights: int | None = None,
    axis: Axis = "in",
    scales: torch.Tensor | None = None,
) -> torch.Tensor:
    """Decode packed streams to a matrix of weights.

    Args:
        words: int32 or uint32 ``(streams, ceil((G*D + V)/32) + 1)``, as
            `algo.packing.extend_words` makes them.
        tables: `gpu.tables.code_tables` of the code, on the same device.
        groups: G, groups per stream.
        dtype: without scales int16, float16, int8 or bfloat16; with scales float16, bfloat16 or
            float32.
        weights: weights of a stream; those of the last group past them are dropped. All G*d by
            default.
        axis: whether streams are rows (``in``) or columns (``out``) of the matrix.
        scales: float32 ``(rows,)``, row scales times ``2**-exponent``.

    Returns:
        ``(streams, weights)`` on axis ``in``, ``(weights, streams)`` on axis ``out``, contiguous.
        Without scales the integers ``acc`` of `algo.decode.decode_words`, exactly (``|acc| <=
        2047``): as they are in int16 and float16, in planes ``(2, rows, columns)`` in int8 (``acc =
        p[0] + 128*p[1]``, p[0] in -64..63, p[1] in -16..16) and bfloat16 (``acc = p[0] + p[1]``,
        p[1] a multiple of 16). With scales ``scale*acc``, rounded once; exact in float32 where a
        scale has no more than twelve bits, as a bfloat16 has.

    Raises:
        LiftError: a shape, dtype or device does not fit.
    """
    out: torch.Tensor = _decode(words, *tables, groups, dtype, weights, axis, scales)
    return out


def bitmm(words: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
    """The one-bit product ``out[r, n] = sum_k (2*bit[r, k] - 1) * digits[k, n]``, exactly.

    Args:
        words: int32 or uint32 ``(R, ceil(K/32))``, bit ``k`` of a row in bit ``k % 32`` of its
            word ``k // 32``. What stands in the padding bits is not read as a digit.
        digits: int8 ``(K, N)``, ``K <= gpu.tables.MAX_INNER``.

    Returns:
        int32 ``(R, N)``. No intermediate value overflows, so the result does not depend on the
        order of summation.

    Raises:
        LiftError: a shape, dtype or device does not fit, or K is over the bound.
    """
    out: torch.Tensor = _bitmm(words, digits)
    return out
