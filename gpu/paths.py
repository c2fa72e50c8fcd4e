"""The paths by name: one layer's exact product, each by other kernels.

Every path takes the same digits and gives the same float32 results, which the tests hold to.
Compiled offline and run under the interpreter; not run on a GPU.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeVar

import torch

from algo.activations import BASE, product_rounded_once
from algo.activations import Digits as DigitCount
from algo.errors import LiftError
from algo.lifted import LIFTED_BASE, bounds, from_digits, lift, signed_digits
from algo.matrix import PackedMatrix
from algo.whitening import random_whitening
from gpu import bitmm, decode, decode_dot, dense, fused, prepare, project
from gpu.dispatch import layer_class
from gpu.interpret import Run
from gpu.lift import lift_tables
from gpu.planes import Digits, laid_out
from gpu.stack import Stack, stack_layers
from gpu.tiles import AMD_TILES, GROUP_TILES, NARROW, NVIDIA_TILES, Tile, default_tile
from gpu.tuning_table import ONE_BIT, Choice
from gpu.weights import PackedWeights, packed_weights
from gpu.whiten import whitening_tensors
from gpu.workload import Preparation

Product = Callable[[], torch.Tensor]

MOST_ONE_BIT = 128  # columns; the one-bit product is far behind from there on
SPLITS = (1, 2, 4, 8, 16, 32)
_AGAIN = "measure again with `liftquant kernels tune`"
_Tile = TypeVar("_Tile", Tile, decode_dot.Tile)


def tile_name(tile: Tile | decode_dot.Tile) -> str:
    """``64x16x64x4x2``: rows, columns, K per step, warps and stages."""
    return "x".join(map(str, tile))


def _one_bit_tiles() -> tuple[Tile, ...]:
    return (*NVIDIA_TILES, *GROUP_TILES) if torch.version.hip is None else AMD_TILES


def _fitting(tiles: Sequence[_Tile], columns: int) -> list[_Tile]:
    """Tiles of which not more than half would be padding, and the narrowest."""
    least = min(tile.columns for tile in tiles)
    return [tile for tile in tiles if tile.columns < 2 * columns or tile.columns == least]


def _named(choice: Choice, tiles: Sequence[_Tile]) -> _Tile | None:
    """The tile that a choice names, None where it leaves that to the path."""
    names = {tile_name(tile): tile for tile in tiles}
    if choice.tile is not None and choice.tile not in names:
        raise LiftError(f"{choice}: there is no such tile, only {', '.join(names)}; {_AGAIN}")
    return None if choice.tile is None else names[choice.tile]


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
        for tile in _fitting(_one_bit_tiles(), columns):
            name = tile_name(tile)
            steps = -(-self._stack.row_bytes // tile.inner)
            if tile.rows >= self.matrix.code.window:
                found.append(Choice(path="fused", tile=name))
            found += [Choice(path="bitmm", tile=name, split=n) for n in SPLITS if n <= steps]
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
        if choice.path == "dense":
            self._unsplit(choice)
            if choice.tile is not None:
                raise LiftError(f"{choice}: dense has no tiles; {_AGAIN}")
            if self.device.type == "cpu":
                return lambda: self._dense_interpreted(digits, step)
            laid = laid_out(digits, step, NARROW)
            return lambda: dense.dense_digits(self._packed, laid, torch.float32)
        if choice.path == "decode-dot":
            return self._decode_dot(choice, digits, step)
        if self.layer.parities:
            raise LiftError(f"{choice} does not take {self.layer}; {_AGAIN}")
        tile = self._one_bit_tile(choice, digits.shape[1] * self.layer.digits)
        laid = laid_out(self._operand(digits), step, tile)
        if choice.path == "bitmm":
            return self._bitmm(laid, tile, choice.split)
        self._unsplit(choice)
        return self._fused(laid, tile)

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
        tile = default_tile(self.device, columns)
        return Preparation(
            lambda: prepare.prepare(self.run, x, held, self.digits, tables, tile),
            lambda: prepare.prepare_plainly(x.cpu(), plain, self.digits, plain_tables, tile),
        )

    def _fused(self, laid: Digits, tile: Tile) -> Product:
        layout = fused.programs(self._stack, tile)
        return lambda: fused.launch(
            self.run, self._stack, layout, laid.planes, laid.sums, laid.step, torch.float32, tile
        )

    def _bitmm(self, laid: Digits, tile: Tile, split: int) -> Product:
        stack, tokens = self._stack, len(laid.step)
        after = project.tile_for(tokens)
        table = project.programs(stack, after)
        bits = stack.words.view(torch.int8)

        def run() -> torch.Tensor:
            sums = bitmm.multiply(
                self.run, bits, laid.planes, laid.sums, tokens * laid.per_token, tile, split
            )
            return project.launch(self.run, stack, table, sums, laid.step, torch.float32, after)

        return run

    def _decode_dot(self, choice: Choice, digits: torch.Tensor, step: torch.Tensor) -> Product:
        self._unsplit(choice)
        columns = len(digits) * digits.shape[1]
        named = _named(choice, decode_dot.TILES)
        tile = decode_dot.tile_for(columns) if named is None else named
        laid = laid_out(digits, step, NARROW._replace(columns=tile.columns))
        return lambda: decode_dot.launch_digits(self.run, self._packed, laid, torch.float32, tile)

    def _dense_interpreted(self, digits: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """What `gpu.dense` does, on a CPU too by the decode kernel."""
        w = self._packed
        kernel = self.run(decode.decode_kernel)
        accs = decode.launch(kernel, w.words, w.tables, torch.int16, w.stream_weights, w.axis)
        integers = sum(d.double() * BASE**k for k, d in enumerate(digits))
        # integers below 2**53, so that the order of summation does not matter
        sums = (integers @ accs.double().T).cpu() * self._scale
        rounded = product_rounded_once(sums.numpy(), step.double().cpu().numpy()[:, None])
        return torch.from_numpy(rounded).to(self.device)

    def _operand(self, digits: torch.Tensor) -> torch.Tensor:
        """Digits of what the bits are multiplied with: lifted on axis ``in``."""
        m = self.matrix
        if m.axis == "out":
            return digits
        lifted = lift(from_digits(digits.cpu().numpy(), BASE), m.code, m.groups)
        of_base = signed_digits(lifted, LIFTED_BASE, self.layer.digits)
        return torch.from_numpy(of_base).to(self.device)

    def _one_bit_tile(self, choice: Choice, columns: int) -> Tile:
        named = _named(choice, _one_bit_tiles())
        return default_tile(self.device, columns) if named is None else named

    @staticmethod
    def _unsplit(choice: Choice) -> None:
        if choice.split > 1:
            raise LiftError(f"{choice}: {choice.path} does not split K; {_AGAIN}")

    @cached_property
    def _stack(self) -> Stack:
        return stack_layers([self.matrix], self.digits).to(self.device)

    @cached_property
    def _packed(self) -> PackedWeights:
        return packed_weights(self.matrix, device=self.device)

    @cached_property
    def _scale(self) -> torch.Tensor:
        return self.matrix.scales.double() * 2.0**-self.matrix.code.exponent
