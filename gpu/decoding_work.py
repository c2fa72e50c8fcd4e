"""The kernels of one decoding step of a transformer, as counts: bytes, instructions, products.

A block of ours, per distinct input (q/k/v, o, gate/up, down): two launches of whitening and one of
quantisation, on axis ``in`` with the lifting in it; then one for the stack of layers that read it,
the product with the projection fused, or two. Beside these a block has two norms, rotation with
the write to the cache, attention in two launches, and the gate's product; the whole model has
embedding, last norm, head and two of sampling. Blocks of other formats are the same with one
launch per input and, where the format rotates, what that takes.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from algo.budget import matrix_bytes
from algo.code import LiftCode
from algo.errors import LiftError
from algo.footprint import input_groups, scale_bytes
from algo.matrix import AXES, Axis
from algo.packing import WORD, stream_groups
from algo.shapes import ModelShapes
from algo.whitening import factor_sizes
from gpu.time_model import Kernel

LARGEST_COLUMNS = 256  # of the one-bit product: the shipped tuning table takes it so far


class ProductCost(NamedTuple):
    """The one-bit product in one tile, as its machine code has it.

    Attributes:
        rows: rows of bits in a tile.
        columns: columns of digits in it; each bit is multiplied once with each of them.
        lanes_per_bit: lane-instructions of the steady loop, per stored bit.
    """

    rows: int
    columns: int
    lanes_per_bit: float


@dataclass(frozen=True)
class Decoding:
    """What is decoded, and how.

    Attributes:
        batch: sequences at a time, one token each.
        context: tokens that each attends to.
        axis: direction of the streams.
        digits: int8 digits per activation: 1 (a8) or 2 (a15).
        head_bits: bits per weight of the output layer.
        kv_bits: bits per number of the cache.
        fused: the projection is in the launch of the product.

    Raises:
        LiftError: a number is out of its range.
    """

    batch: int = 1
    context: int = 1024
    axis: Axis = "out"
    digits: int = 2
    head_bits: int = 16
    kv_bits: int = 16
    fused: bool = True

    def __post_init__(self) -> None:
        if self.context < 1:
            raise LiftError(f"context must be at least 1, not {self.context}")
        if self.axis not in AXES:
            raise LiftError(f"axis {self.axis!r} is none of {', '.join(AXES)}")
        if self.digits not in (1, 2):
            raise LiftError(f"digits must be 1 or 2, not {self.digits}")
        most = LARGEST_COLUMNS // self.per_token
        if not 1 <= self.batch <= most:
            raise LiftError(
                f"batch must be from 1 to {most}, not {self.batch}; beyond it layers are "
                "decoded once and multiplied densely, which is not modelled"
            )
        for what in ("head_bits", "kv_bits"):
            if not 2 <= getattr(self, what) <= 16:
                raise LiftError(f"{what} must be from 2 to 16, not {getattr(self, what)}")

    @property
    def per_token(self) -> int:
        """Columns of a token; lifted integers (axis ``in``) are taken to need four, as most do."""
        return 4 if self.axis == "in" else self.digits

    @property
    def columns(self) -> int:
        """Columns of digits."""
        return self.batch * self.per_token


def bit_matrix(shape: tuple[int, int], code: LiftCode, axis: Axis) -> tuple[int, int]:
    """``(rows, K)`` of the one-bit matrix of a layer ``(outputs, inputs)``."""
    rows, columns = shape
    if axis == "in":
        return rows, stream_groups(columns, code) * code.lifted
    return stream_groups(rows, code) * code.lifted, columns


@lru_cache(maxsize=1024)
def multiplied_rows(outputs: int, rows: int, code: LiftCode, tile_rows: int, fused: bool) -> int:
    """Rows of bits that the programs of a layer multiply, in whole tiles.

    Args:
        outputs: of the layer.
        rows: of its one-bit matrix.
        code: whose windows a program must hold whole, if it projects.
        tile_rows: rows of a program.
        fused: programs project on axis ``out``, so that neighbours repeat the bits which windows
            of both need: each takes outputs until a window would reach past its rows.

    Raises:
        LiftError: a window is wider than the tile.
    """
    if not fused:
        return -(-rows // tile_rows) * tile_rows
    if code.window > tile_rows:
        raise LiftError(f"a window of {code.window} bits does not fit a tile of {tile_rows} rows")
    output = np.arange(outputs)
    starts = output // code.group * code.lifted + np.array(code.starts)[output % code.group]
    programs, first = 0, 0
    while first < outputs:
        last = np.searchsorted(starts, starts[first] + tile_rows - code.window, side="right")
        first = min(int(last), first + tile_rows)
        programs += 1
    return programs * tile_rows


def our_kernels(
    shapes: ModelShapes, codes: Mapping[str, LiftCode], how: Decoding, cost: ProductCost
) -> list[Kernel]:
    """Every launch of a decoding step on packed weights, equal ones counted.

    Args:
        shapes: of the model.
        codes: of every layer, by name; without parities, which the one-bit product does not know.
        how: batch, context and forms.
        cost: of the product in the tile that `how.columns` columns take.

    Raises:
        LiftError: a layer is too narrow for its code, or a window too wide for the tile.
    """
    tiles = -(-how.columns // cost.columns)
    padded = tiles * cost.columns
    kernels: list[Kernel] = []
    for leader, members in input_groups(shapes.linears).items():
        inputs = shapes.linears[leader][1]
        matrices = [bit_matrix(shapes.linears[n], codes[n], how.axis) for n in members]
        inner = max(k for _, k in matrices)
        kernels += _prepare(inputs, inner, padded, how)
        projected = how.fused and how.axis == "out"
        multiplied = [
            (multiplied_rows(shapes.linears[n][0], rows, codes[n], cost.rows, projected), k)
            for n, (rows, k) in zip(members, matrices, strict=True)
        ]
        bits = float(sum(rows * k for rows, k in multiplied))
        sums = 4 * how.columns * sum(rows for rows, _ in matrices)
        outputs = sum(2 * how.batch * shapes.linears[n][0] for n in members)
        outputs += sum(scale_bytes(shapes.linears[n]) for n in members)
        words = sum(rows * -(-k // WORD) * WORD // 8 for rows, k in matrices)
        # every tile of rows reads all planes again, every tile of columns all words
        again = sum(rows // cost.rows * padded * k for rows, k in multiplied)
        product = Kernel(
            "product",
            1,
            words + padded * inner + (outputs if how.fused else sums),
            lanes=tiles * bits * cost.lanes_per_bit,
            cache_bytes=tiles * bits / 8 + again,
            int8_macs=tiles * bits * cost.columns,
        )
        kernels.append(product)
        if not how.fused:
            kernels.append(Kernel("projection", 1, sums + outputs))
    return _counted([*kernels, *_others(shapes, how), *_ends(shapes, how)])


def _prepare(inputs: int, inner: int, padded: int, how: Decoding) -> list[Kernel]:
    """Whitening and quantisation of one input; on axis ``in`` the last launch lifts, too."""
    values = how.batch * inputs
    left, right = factor_sizes(inputs)
    return [
        Kernel("whitening", 1, 2 * values + 2 * inputs + 4 * left * left + 4 * values),
        Kernel("whitening", 1, 8 * values + 4 * right * right),
        Kernel("quantisation", 1, 4 * values + padded * inner),
    ]


def dense_kernels(
    shapes: ModelShapes, bits: float, head_bits: float, how: Decoding, rotations: int = 0
) -> list[Kernel]:
    """A decoding step in a format of `bits` per weight, taken to be as near the memory's bound as
    fp16 is: of its own instructions nothing is known.

    Args:
        shapes: of the model.
        bits: stored per weight of the blocks' layers, scales included.
        head_bits: the same of the output layer.
        how: batch, context and bits of the cache.
        rotations: launches per input that only transform activations.
    """
    kernels: list[Kernel] = []
    for leader, members in input_groups(shapes.linears).items():
        inputs = shapes.linears[leader][1]
        rows = sum(shapes.linears[n][0] for n in members)
        kernels += [Kernel("rotation", 1, 4 * how.batch * inputs)] * rotations
        moved = rows * inputs * bits / 8 + 2 * how.batch * (rows + inputs)
        kernels.append(Kernel("product", 1, moved))
    return _counted([*kernels, *_others(shapes, how), *_ends(shapes, how, head_bits)])


def _others(shapes: ModelShapes, how: Decoding) -> list[Kernel]:
    """What a block launches beside its layers."""
    rows = sum(rows for rows, _ in shapes.linears.values()) // len(shapes.caches)
    between = 2 * how.batch * (4 * shapes.hidden + rows) / 4
    kernels = []
    for cache in shapes.caches:
        attention = how.batch * cache.count(how.context) * how.kv_bits / 8
        kernels += [
            *[Kernel("norm, rotation, gate", 1, between)] * 4,
            Kernel("attention", 1, attention),
            Kernel("attention, sum", 1, 4 * how.batch * shapes.hidden),
        ]
    return kernels


def _ends(shapes: ModelShapes, how: Decoding, head_bits: float | None = None) -> list[Kernel]:
    """Embedding, last norm, head, sampling."""
    table = shapes.carried[shapes.head or shapes.embedding]
    stored: float = matrix_bytes(table, how.head_bits)
    if head_bits is not None:
        stored = table.shape[0] * table.shape[1] * head_bits / 8
    row, logits = 2 * how.batch * shapes.hidden, 4 * how.batch * shapes.vocabulary
    macs = float(shapes.vocabulary * shapes.hidden * how.batch)
    return [
        Kernel("embedding", 1, 2 * row),
        Kernel("last norm", 1, 2 * row),
        Kernel("head", 1, stored + row + logits, fp16_macs=macs),
        *[Kernel("sampling", 1, logits)] * 2,
    ]


def _counted(kernels: list[Kernel]) -> list[Kernel]:
    """Equal kernels as one, with their count, in the order of their first."""
    return [kernel._replace(launches=n) for kernel, n in Counter(kernels).items()]
