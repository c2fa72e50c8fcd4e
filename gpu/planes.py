"""Digits of activations as the one-bit product reads them.

A byte of eight bits meets the digits of its eight inner indices one plane at a time, so digits lie
in eight planes, the bytes of a column next to each other.
"""

from typing import NamedTuple

import torch

from algo.errors import LiftError
from gpu.tables import MAX_ELEMENTS
from gpu.tiles import Tile


class Digits(NamedTuple):
    """Integers of all tokens in digits, ready for the one-bit product.

    Token t has the columns ``t*per_token`` up to ``(t + 1)*per_token``, its least significant digit
    first. What pads columns and bytes to whole tiles is zero.

    Attributes:
        planes: int8 ``(8, N', Kb')``; entry ``(s, n, k)`` is inner index ``8k + s`` of column n.
        sums: int32 ``(N',)``, the sum of each column's digits.
        step: float32 ``(tokens,)``, what a token's integers count in; NaN where the token held NaN
            or infinity, whose digits are zero.
        per_token: columns of a token, 1, 2 or 4.
    """

    planes: torch.Tensor
    sums: torch.Tensor
    step: torch.Tensor
    per_token: int


def planes_shape(columns: int, inner: int, tile: Tile) -> tuple[int, int, int]:
    """``(8, N', Kb')`` for `columns` columns of `inner` digits, padded to whole words and tiles.

    Raises:
        LiftError: the planes are longer than 32-bit indices reach.
    """
    row_bytes = 4 * -(-inner // 32)
    shape = (
        8,
        -(-columns // tile.columns) * tile.columns,
        -(-row_bytes // tile.inner) * tile.inner,
    )
    if shape[0] * shape[1] * shape[2] > MAX_ELEMENTS:
        raise LiftError(
            f"{columns} columns of {inner} digits are over {MAX_ELEMENTS} elements, which is as "
            "far as 32-bit indices reach; take fewer tokens at a time"
        )
    return shape


def laid_out(digits: torch.Tensor, step: torch.Tensor, tile: Tile) -> Digits:
    """Plain digits in planes.

    Args:
        digits: int8 ``(per_token, tokens, K)``, least significant first.
        step: float32 ``(tokens,)``.
        tile: padding goes up to whole tiles.

    Raises:
        LiftError: the planes are longer than 32-bit indices reach.
    """
    per_token, tokens, inner = digits.shape
    columns = digits.transpose(0, 1).reshape(tokens * per_token, inner)
    _, padded, row_bytes = planes_shape(len(columns), inner, tile)
    whole = digits.new_zeros((padded, 8 * row_bytes))
    whole[: len(columns), :inner] = columns
    planes = whole.view(padded, row_bytes, 8).permute(2, 0, 1).contiguous()
    return Digits(planes, whole.sum(dim=1, dtype=torch.int32), step, per_token)
