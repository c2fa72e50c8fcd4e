"""Streams out of the one-bit matrix: what decoding needs where only that matrix is kept.

On axis ``out`` the one-bit product wants bits contiguous across the streams, decoding along them.
Weights are held once; a path that decodes turns the bits of a layer round first, 32 x 32 at a time.
Compiled offline and run under the interpreter; not run on a GPU.
"""

import torch
import triton
import triton.language as tl

from algo.errors import LiftError
from gpu.interpret import Run
from gpu.job import KernelJob

COLUMN_WORDS = 32  # words of 32 streams that a program turns round
WARPS = 1


@triton.jit  # type: ignore[untyped-decorator]
def transpose_kernel(  # type: ignore[no-untyped-def]
    matrix,
    streams_out,
    row_words,
    stream_words,
    streams,
    bits,
    held,
    COLUMN_WORDS: tl.constexpr,
):
    word = tl.program_id(0)  # of every stream: 32 bits of it, which are rows of the matrix
    column = tl.program_id(1) * COLUMN_WORDS + tl.arange(0, COLUMN_WORDS)
    within = tl.arange(0, 32)
    position = word * 32 + within
    row = tl.where(position < bits, position, position - bits)  # windows go on past the end
    known = (position < held)[:, None] & (column * 32 < streams)[None, :]
    at = matrix + row.to(tl.int64)[:, None] * row_words + column[None, :]
    square = tl.load(at, mask=known, other=0)
    for bit in range(32):
        turned = tl.sum(((square >> bit) & 1) << within[:, None], axis=0)
        stream = column * 32 + bit
        tl.store(
            streams_out + stream.to(tl.int64) * stream_words + word, turned, mask=stream < streams
        )


def stream_words(
    run: Run, matrix: torch.Tensor, streams: int, bits: int, overlap: int
) -> torch.Tensor:
    """Streams as `algo.packing.extend_words` makes them, from the one-bit matrix.

    Args:
        run: `gpu.interpret.as_is` or an interpreter's.
        matrix: int32 ``(bits, words)``, any row stride; bit ``c`` of a row is that of stream ``c``.
        streams: how many there are.
        bits: G*D, of one stream.
        overlap: V, bits that follow again after the last.

    Returns:
        int32 ``(streams, ceil((G*D + V)/32) + 1)``.

    Raises:
        LiftError: the matrix is not of that shape, or the overlap is longer than the stream.
    """
    if matrix.dtype != torch.int32 or matrix.ndim != 2 or matrix.shape[0] != bits:
        raise LiftError(
            f"the one-bit matrix is {matrix.dtype} of shape {tuple(matrix.shape)}; streams of "
            f"{bits} bits need int32 of {bits} rows"
        )
    if matrix.shape[1] * 32 < streams or matrix.stride(1) != 1:
        raise LiftError(
            f"rows of {matrix.shape[1]} words, {matrix.stride(1)} apart, cannot hold {streams} "
            "streams; rows must be contiguous words"
        )
    if not 0 <= overlap <= bits:
        raise LiftError(f"an overlap of {overlap} bits is longer than a stream of {bits}")
    held = bits + overlap
    words = -(-held // 32) + 1
    out = torch.empty((streams, words), dtype=torch.int32, device=matrix.device)
    if streams:
        run(transpose_kernel)[(words, -(-streams // (32 * COLUMN_WORDS)))](
            matrix,
            out,
            matrix.stride(0),
            words,
            streams,
            bits,
            held,
            COLUMN_WORDS=COLUMN_WORDS,
            num_warps=WARPS,
            enable_fp_fusion=False,  # nothing to fuse; Triton warns where it is left open
        )
    return out


def jobs() -> list[KernelJob]:
    """The one configuration there is."""
    sizes = ("row_words", "stream_words", "streams", "bits", "held")
    return [
        KernelJob(
            kernel="transpose",
            code="any",
            function=transpose_kernel,
            signature={"matrix": "*i32", "streams_out": "*i32"} | dict.fromkeys(sizes, "i32"),
            constants={"COLUMN_WORDS": COLUMN_WORDS},
            aligned=("matrix", "streams_out"),
            options={"num_warps": WARPS},
        )
    ]
