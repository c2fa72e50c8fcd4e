"""Both operators in plain torch: what the kernels are held against, to be read beside them.

Integers throughout, or floating point where every intermediate value is an exact integer.
"""

import torch

from algo.matrix import Axis
from gpu.tables import CodeTables, as_int32, decoded_shape

_CHUNK = 1 << 22  # elements of an intermediate, to bound memory


def decode(
    words: torch.Tensor,
    tables: CodeTables,
    groups: int,
    dtype: torch.dtype,
    weights: int,
    axis: Axis = "in",
    scales: torch.Tensor | None = None,
    first: int = 0,
) -> torch.Tensor:
    """`gpu.ops.decode` on checked arguments, on any device, from the taps and not the cells.

    Of each stream it decodes `weights` weights from the one numbered `first`.
    """
    streams = words.shape[0]
    shape = decoded_shape(streams, weights, axis, dtype, scales is not None)
    out = torch.empty(shape, dtype=dtype, device=words.device)
    along = out if axis == "in" else out.mT  # streams are rows of this view
    step = max(1, _CHUNK // (groups * tables.taps.shape[0]))
    for stream in range(0, streams, step):
        part = slice(stream, stream + step)
        acc = _decode_chunk(as_int32(words[part]), tables, groups).flatten(1)
        acc = acc[:, first : first + weights]
        if scales is not None:
            along[part] = acc * (scales[part, None] if axis == "in" else scales)
        elif len(shape) == 3:
            for plane, values in zip(along, two_planes(acc, dtype), strict=True):
                plane[part] = values
        else:
            along[part] = acc
    return out


def two_planes(acc: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Low and high part of accumulators, as `gpu.ops.decode` splits them for int8 or bfloat16."""
    bits = 7 if dtype == torch.int8 else 4
    high = acc + (1 << bits - 1) >> bits
    low = acc - (high << bits)
    return low, high if dtype == torch.int8 else high << bits


def _decode_chunk(words: torch.Tensor, tables: CodeTables, groups: int) -> torch.Tensor:
    taps, starts, parities = tables.taps.to(torch.int32), tables.starts, tables.parities
    window_bits = taps.shape[1] - parities.shape[0]
    unsigned = words.to(torch.int64) & 0xFFFFFFFF  # a shift of int32 would bring in the sign
    first_bit = torch.arange(groups, device=words.device) * tables.lifted
    bit = first_bit[:, None] + starts.to(torch.int64)  # (groups, d)
    low, high = unsigned[:, bit >> 5], unsigned[:, (bit >> 5) + 1]
    window = ((low | high << 32) >> (bit & 31)).to(torch.int32)
    acc = torch.zeros(window.shape, dtype=torch.int32, device=words.device)
    for j in range(window_bits):
        acc += ((window >> j & 1) * 2 - 1) * taps[:, j]
    for m in range(parities.shape[0]):
        # the product of signs is -1 where an odd number of the named bits is 0
        odd = ~window & parities[m]
        for shift in (16, 8, 4, 2, 1):
            odd = odd ^ odd >> shift
        acc += (1 - 2 * (odd & 1)) * taps[:, window_bits + m]
    return acc


def bitmm(words: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
    """`gpu.ops.bitmm` on checked arguments, on any device.

    Float64 products are exact: every partial sum is an integer below ``128 * MAX_INNER < 2**53``,
    whatever the order of summation.
    """
    inner, columns = digits.shape
    words = as_int32(words)
    shifts = torch.arange(32, device=words.device, dtype=torch.int32)
    wide = digits.to(torch.float64)
    out = torch.empty((words.shape[0], columns), dtype=torch.int32, device=words.device)
    step = max(1, _CHUNK // inner)
    for first in range(0, words.shape[0], step):
        bits = words[first : first + step, :, None] >> shifts & 1
        signs = (bits.flatten(1)[:, :inner] * 2 - 1).to(torch.float64)
        out[first : first + step] = (signs @ wide).to(torch.int32)
    return out
