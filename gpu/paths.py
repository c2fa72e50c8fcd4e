"""The paths by name: one layer's exact product, each by other kernels.

Every path takes the same digits and gives the same float32 results, which the tests hold to.
Compiled offline and run under the interpreter; not run on a GPU.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeVar

import torch

from algo.activations import BASE
from algo.activations import Digits as DigitCount
from algo.errors import LiftError
from algo.lifted import LIFTED_BASE, bounds, from_digits, lift, signed_digits
from algo.matrix import PackedMatrix
from algo.whitening import random_whitening
from gpu import decode_dot, prepare
from gpu.dispatch import layer_class
from gpu.interpret import Run
from gpu.lift import lift_tables
from gpu.planes import laid_out
from gpu.products import (
    OneBitProduct,
    check_decoding,
    chosen_tile,
    decoded_product,
    one_bit_tiles,
)
from gpu.stack import Segment, Stack, stack_layers
from gpu.streams import segment_weights
from gpu.tables import CodeTables, code_tables
from gpu.tiles import NARROW, Tile, tile_name
from gpu.tuning_table import ONE_BIT, Choice
from gpu.weights import PackedWeights, packed_weights
from gpu.whitening_tensors import whitening_tensors
from gpu.workload import Preparation

Product = Callable[[], torch.Tensor]

MOST_ONE_BIT = 512  # columns; by instruction counts a dense product is ahead from some 300 on
SPLITS = (1, 2, 4, 8, 16, 32)
_Tile = TypeVar("_Tile", Tile, decode_dot.Tile)


def _fitting(tiles: Sequence[_Tile], columns: int) -> list[_Tile]:
    """Tiles of which not more than half would be padding, and the narrowest."""
    least = min(tile.columns for tile in tiles)
    return [tile for tile in tiles if tile.columns < 2 * columns or tile.columns == least]


class PathLayer:
    """A layer on one device, as the paths read it; what a path needs is made when it is first run.

    Args:
        matrix: the packed weights.
        digits: 1 (a8) or 2 (a15) int8 digits per activation.
        device: where its tensors are.
        run: `gpu.interpret.as_is` on a GPU, or an interpreter's.
    """

    def __init__(
        self, matrix: PackedMatrix, digits: DigitCount, device: torch.device, run: Run
    ) -> None:
        self.matrix = matrix
        self.digits: DigitCount = digits
        self.device = device
        self.run = run
        code, axis = matrix.code, matrix.axis
        columns: int = digits
        if not code.parities:
            columns = bounds(matrix.shape, code, axis, digits).per_token
        self.layer = layer_class(*matrix.shape, code, axis, columns)

    def candidates(self, columns: int) -> Sequence[Choice]:
        """The choices worth trying for so many columns."""
        found = [Choice(path="dense")]
        digits = columns // self.layer.digits * self.digits
        found += [
            Choice(path="decode-dot", tile=tile_name(tile))
            for tile in _fitting(decode_dot.TILES, digits)
        ]
        if self.layer.parities or columns > MOST_ONE_BIT:
            return found
        found += [
            Choice(path="fused", tile=tile_name(tile))
            for tile in _fitting(one_bit_tiles("fused"), columns)
            if tile.rows >= self.matrix.code.window
        ]
        for tile in _fitting(one_bit_tiles("bitmm"), columns):
            steps = -(-self._stack.row_bytes // tile.inner)
            found += [
                Choice(path="bitmm", tile=tile_name(tile), split=n) for n in SPLITS if n <= steps
            ]
        return found

    def product(self, choice: Choice, digits: torch.Tensor, step: torch.Tensor) -> Product:
        """What carries out a choice; inputs are laid out for it here, once.

        Args:
            choice: a path that takes this layer, and one of the path's tiles or None.
            digits: int8 ``(digits, tokens, columns)``, least significant first.
            step: float32 ``(tokens,)``.

        Returns:
            A function that launches and returns float32 ``(tokens, rows)``.

        Raises:
            LiftError: the path does not take this layer, or has no such tile or split.
        """
        if choice.path in ONE_BIT and self.layer.parities:
            raise LiftError(
                f"{choice} does not take {self.layer}; measure again with `liftquant kernels tune`"
            )
        if choice.path in ONE_BIT:
            tile = chosen_tile(choice, self.device, digits.shape[1] * self.layer.digits)
            laid = laid_out(self._operand(digits), step, tile)
            return lambda: self._one_bit(self.run, self._stack, laid, choice, tile, torch.float32)
        check_decoding(choice)
        laid = laid_out(digits, step, NARROW)
        return lambda: decoded_product(self.run, self._layers(), laid, choice, torch.float32)

    def preparation(self, choice: Choice, x: torch.Tensor) -> Preparation:
        """Whitening, quantising and, for the one-bit product on axis ``in``, lifting.

        By a random whitening, whose time is that of any other.

        Args:
            choice: what the digits are for.
            x: float16 ``(tokens, columns)``, on this layer's device.
        """
        code, inputs = self.matrix.code, self.matrix.shape[1]
        lifted = self.matrix.axis == "in" and choice.path in ONE_BIT
        whitening = random_whitening(inputs, seed=0)
        held, plain = whitening_tensors(whitening, self.device), whitening_tensors(whitening)
        tables = lift_tables(code, inputs, self.device) if lifted else None
        plain_tables = lift_tables(code, inputs) if lifted else None
        columns = len(x) * (self.layer.digits if lifted else self.digits)
        tile = chosen_tile(choice, self.device, columns) if choice.path in ONE_BIT else NARROW
        return Preparation(
            lambda: prepare.prepare(self.run, x, held, self.digits, tables, tile),
            lambda: prepare.prepare_plainly(x.cpu(), plain, self.digits, plain_tables, tile),
        )

    def _layers(self) -> list[PackedWeights]:
        """What is decoded: streams as they are held, or laid out each time as a module does."""
        if self.layer.parities:
            return [self._packed]
        inputs = self.matrix.shape[1]
        return [segment_weights(self.run, self._stack, self._segment, self._tables, inputs)]

    def _operand(self, digits: torch.Tensor) -> torch.Tensor:
        """Digits of what the bits are multiplied with: lifted on axis ``in``."""
        m = self.matrix
        if m.axis == "out":
            return digits
        lifted = lift(from_digits(digits.cpu().numpy(), BASE), m.code, m.groups)
        of_base = signed_digits(lifted, LIFTED_BASE, self.layer.digits)
        return torch.from_numpy(of_base).to(self.device)

    @cached_property
    def _stack(self) -> Stack:
        return stack_layers([self.matrix], self.digits).to(self.device)

    @cached_property
    def _packed(self) -> PackedWeights:
        return packed_weights(self.matrix, device=self.device)

    @cached_property
    def _one_bit(self) -> OneBitProduct:
        return OneBitProduct()

    @cached_property
    def _segment(self) -> Segment:
        (segment,) = self._stack.rows()
        return segment

    @cached_property
    def _tables(self) -> CodeTables:
        return code_tables(self.matrix.code, self.device)
