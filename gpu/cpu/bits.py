"""Where the bits of a layer lie for the CPU's kernels: 64 inner indices to a word.

The one-bit product counts the bits of words, so that a word has to hold bits of 64 inner indices
that one sum runs over. Neighbouring words belong to neighbouring sums, and so compile to SIMD:

* axis ``out``: the inner index is the column. Word ``(n, c, g)`` holds bit ``g*D + c`` of the
  streams of columns ``64n`` to ``64n + 63``. The groups that windows wrap round to follow the last.
* axis ``in``: the inner index is the bit of a stream. Word ``(n, 0, r)`` holds bits ``64n`` to
  ``64n + 63`` of row r.

What is padded is zero. `SLACK` words follow the last, so that a vector may begin at any word.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from algo.code import LiftCode
from algo.errors import LiftError
from algo.matrix import Axis, PackedMatrix
from algo.packing import Words, pack_bits, stream_groups, unpack_bits

WORD = 64
LANES = 8  # words that are read together
SLACK = 40  # words after the last: what a vector that begins inside may read


class BitLayout(NamedTuple):
    """Shape of a layer's bits.

    Attributes:
        words: of 64 inner indices.
        classes: bits of a group that lie apart: D on axis ``out``, 1 on axis ``in``.
        lanes: neighbouring words: groups and those they wrap round to, or rows.
        inner: inner indices, the last word's padding not counted.
    """

    words: int
    classes: int
    lanes: int
    inner: int

    @property
    def size(self) -> int:
        """Words in all, with the slack."""
        return self.words * self.classes * self.lanes + SLACK


def wrapping_groups(code: LiftCode) -> int:
    """Groups after its own that a group's window reaches into."""
    return (code.lifted + code.overlap - 1) // code.lifted


@lru_cache(maxsize=4096)
def bit_layout(code: LiftCode, axis: Axis, shape: tuple[int, int]) -> BitLayout:
    """How the bits of a layer of `shape` ``(rows, columns)`` lie.

    Raises:
        LiftError: its streams are too short for the code.
    """
    rows, columns = shape
    if axis == "out":
        lanes = stream_groups(rows, code) + wrapping_groups(code)
        return BitLayout(-(-columns // WORD), code.lifted, lanes, columns)
    inner = stream_groups(columns, code) * code.lifted
    return BitLayout(-(-inner // WORD), 1, rows, inner)


def laid_out(matrix: PackedMatrix) -> torch.Tensor:
    """The bits of a matrix as the kernels read them.

    Returns:
        int64 ``(bit_layout(...).size,)``, the patterns of unsigned words.

    Raises:
        LiftError: a padding bit of the stored words is set.
    """
    code, groups = matrix.code, matrix.groups
    layout = bit_layout(code, matrix.axis, matrix.shape)
    bits = unpack_bits(matrix.words, groups * code.lifted)
    if matrix.axis == "out":
        again = bits[:, : wrapping_groups(code) * code.lifted]
        bits = np.concatenate([bits, again], axis=1).T
    words = _words_of(bits)
    out = np.zeros(layout.size, np.uint64)
    kept = words.reshape(layout.lanes, layout.classes, layout.words)
    out[: kept.size] = kept.transpose(2, 1, 0).reshape(-1)
    return torch.from_numpy(out.view(np.int64))


def stored_words(bits: torch.Tensor, code: LiftCode, axis: Axis, shape: tuple[int, int]) -> Words:
    """The inverse of `laid_out`: uint32 words as a `PackedMatrix` of `shape` has them.

    Raises:
        LiftError: `bits` are not those of such a layer.
    """
    layout = check_bits(bits, code, axis, shape)
    words = bits.cpu().numpy().view(np.uint64)[: layout.size - SLACK]
    apart = words.reshape(layout.words, layout.classes, layout.lanes).transpose(2, 1, 0)
    rows = np.ascontiguousarray(apart).reshape(-1, layout.words)
    plain = unpack_bits(rows.view(np.uint32), layout.words * WORD)[:, : layout.inner]
    if axis == "out":
        return pack_bits(
            np.ascontiguousarray(plain[: stream_groups(shape[0], code) * code.lifted].T)
        )
    return pack_bits(plain)


def check_bits(bits: torch.Tensor, code: LiftCode, axis: Axis, shape: tuple[int, int]) -> BitLayout:
    """The layout of `bits`.

    Raises:
        LiftError: they have another type or size, or are not contiguous.
    """
    layout = bit_layout(code, axis, shape)
    if bits.dtype != torch.int64 or bits.shape != (layout.size,) or not bits.is_contiguous():
        raise LiftError(
            f"bits are {bits.dtype} of shape {tuple(bits.shape)}; a {shape[0]}x{shape[1]} layer in "
            f"{code.name} on axis {axis} has contiguous int64 of shape ({layout.size},)"
        )
    return layout


def _words_of(bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Rows of 0/1 in words of 64, the last padded with zeros."""
    count, n = bits.shape
    padded = np.zeros((count, -(-n // WORD) * WORD), np.uint8)
    padded[:, :n] = bits
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64, copy=False)
