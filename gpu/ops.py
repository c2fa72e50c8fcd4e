"""The operators torch knows: ``liftquant::decode`` and ``liftquant::bitmm``.

CPU tensors take the plain torch path, CUDA and HIP tensors the Triton kernels, which are imported
only then (compiled, not run on a GPU). To torch.compile both are opaque; it calls them as they are.
"""

import torch

from algo.errors import LiftError
from gpu import reference
from gpu.tables import CodeTables, check_bitmm, check_decode


def _on_cpu(words: torch.Tensor) -> bool:
    if words.device.type not in ("cpu", "cuda"):  # HIP devices call themselves cuda, too
        raise LiftError(f"there is no kernel for {words.device}; use a CPU, CUDA or HIP device")
    return words.device.type == "cpu"


@torch.library.custom_op("liftquant::decode", mutates_args=())
def _decode(
    words: torch.Tensor,
    taps: torch.Tensor,
    starts: torch.Tensor,
    parities: torch.Tensor,
    lifted: int,
    overlap: int,
    groups: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    tables = CodeTables(taps, starts, parities, lifted, overlap)
    check_decode(words, tables, groups, dtype)
    if _on_cpu(words):
        return reference.decode(words, tables, groups, dtype)
    from gpu.decode import decode_kernel, launch

    with torch.cuda.device(words.device):
        return launch(decode_kernel, words, tables, groups, dtype)


@_decode.register_fake
def _(
    words: torch.Tensor,
    taps: torch.Tensor,
    starts: torch.Tensor,
    parities: torch.Tensor,
    lifted: int,
    overlap: int,
    groups: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    tables = CodeTables(taps, starts, parities, lifted, overlap)
    return words.new_empty(check_decode(words, tables, groups, dtype), dtype=dtype)


@torch.library.custom_op("liftquant::bitmm", mutates_args=())
def _bitmm(words: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
    _, columns = check_bitmm(words, digits)
    if _on_cpu(words):
        return reference.bitmm(words, digits)
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
) -> torch.Tensor:
    """Decode packed streams to integer weights, exactly.

    Args:
        words: int32 or uint32 ``(streams, ceil((G*D + V)/32) + 1)``, as
            `algo.packing.extend_words` makes them.
        tables: `gpu.tables.code_tables` of the code, on the same device.
        groups: G, groups per stream.
        dtype: int16, or float16, which holds every accumulator exactly (``|acc| <= 2047``).

    Returns:
        ``(streams, G*d)`` of `dtype`, the integers `algo.decode.decode_words` gives.

    Raises:
        LiftError: a shape, dtype or device does not fit.
    """
    out: torch.Tensor = _decode(
        words, tables.taps, tables.starts, tables.parities, tables.lifted, tables.overlap,
        groups, dtype,
    )  # fmt: skip
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
