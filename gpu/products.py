"""One input times a stack of layers, by the kernels of a choice.

Every choice gives the same bits: they differ in time and memory alone. Compiled offline and run
under the interpreter; not run on a GPU.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from algo.errors import LiftError
from gpu.planes import Digits
from gpu.stack import Stack
from gpu.tiles import AMD_TILES, GROUP_TILES, NVIDIA_TILES, default_tile, named_tile
from gpu.weights import PackedWeights

if TYPE_CHECKING:  # which would import triton
    from gpu.fused_layout import Programs
    from gpu.interpret import Run
    from gpu.tiles import Tile
    from gpu.tuning_table import Choice, PathName

_AGAIN = "measure the tuning table again with `liftquant kernels tune`"


class OneBitProduct:
    """What the launches of one stack share, made when they first need it, for each device."""

    def __init__(self) -> None:
        self._fused: dict[tuple[torch.device, Tile], Programs] = {}
        self._tables: dict[tuple[torch.device, int], torch.Tensor] = {}

    def __call__(
        self,
        run: "Run",
        stack: Stack,
        digits: Digits,
        choice: "Choice",
        tile: "Tile",
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """``(tokens, outputs)`` of `dtype`.

        Args:
            run: `gpu.interpret.as_is` or an interpreter's.
            stack: the same layers at every call.
            digits: laid out for `tile`, lifted on axis ``in``.
            choice: ``fused``, or ``bitmm`` with any split of K.
            tile: of the one-bit product.
            dtype: float32, float16 or bfloat16.

        Raises:
            LiftError: the choice is another path, or splits what is fused.
        """
        from gpu import bitmm, fused, fused_layout, project

        device = stack.words.device
        if choice.path == "fused":
            _unsplit(choice)
            if (device, tile) not in self._fused:
                self._fused[device, tile] = fused_layout.programs(stack, tile)
            layout = self._fused[device, tile]
            return fused.launch(
                run, stack, layout, digits.planes, digits.sums, digits.step, dtype, tile
            )
        if choice.path != "bitmm":
            raise LiftError(f"{choice} is no one-bit product; {_AGAIN}")
        tokens = len(digits.step)
        after = project.tile_for(tokens)
        if (device, after.outputs) not in self._tables:
            self._tables[device, after.outputs] = project.programs(stack, after)
        table = self._tables[device, after.outputs]
        columns = tokens * digits.per_token
        if columns:
            sums = bitmm.multiply(
                run, stack.words.view(torch.int8), digits.planes, digits.sums, columns, tile,
                choice.split,
            )  # fmt: skip
        else:
            sums = stack.words.new_empty((len(stack.words), 0))
        return project.launch(run, stack, table, sums, digits.step, dtype, after)


def decoded_product(
    run: "Run",
    layers: Iterable[PackedWeights],
    digits: Digits,
    choice: "Choice",
    dtype: torch.dtype,
) -> torch.Tensor:
    """``(tokens, outputs)`` of layers side by side, by decoding them.

    Args:
        run: `gpu.interpret.as_is` or an interpreter's.
        layers: of one input; each is let go of before the next is asked for.
        digits: of base 128, not lifted.
        choice: ``decode-dot`` or ``dense``.
        dtype: float32, float16 or bfloat16.

    Raises:
        LiftError: the choice is another path.
    """
    from gpu import decode_dot
    from gpu.dense import dense_digits

    check_decoding(choice)
    if choice.path == "decode-dot":
        tile = None if choice.tile is None else named_tile(choice.tile, decode_dot.TILES)
        outputs = [decode_dot.launch_digits(run, w, digits, dtype, tile) for w in layers]
    else:
        outputs = [dense_digits(weights, digits, dtype) for weights in layers]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


def chosen_tile(choice: "Choice", device: torch.device, columns: int) -> "Tile":
    """The one-bit product's tile: the one the choice names, or the default of the device.

    Raises:
        LiftError: no tile has that name.
    """
    tiles = one_bit_tiles(choice.path)
    if choice.tile is not None:
        return named_tile(choice.tile, tiles)
    if choice.path == "fused":
        from gpu.fused import tile_for

        return tile_for(columns, torch.version.hip is not None)
    return default_tile(device, columns)


def one_bit_tiles(path: "PathName") -> tuple["Tile", ...]:
    """The tiles of ``fused`` or ``bitmm`` on the kind of GPU that torch is built for."""
    from gpu import fused

    amd = torch.version.hip is not None
    if path == "fused":
        return fused.AMD if amd else fused.NVIDIA
    return AMD_TILES if amd else (*NVIDIA_TILES, *GROUP_TILES)


def check_decoding(choice: "Choice") -> None:
    """Raise LiftError where a choice is not ``decode-dot`` or ``dense``, or asks for too much."""
    if choice.path not in ("decode-dot", "dense"):
        raise LiftError(f"{choice} does not decode, as codes with parities need; {_AGAIN}")
    _unsplit(choice)
    if choice.path == "dense" and choice.tile is not None:
        raise LiftError(f"{choice}: dense has no tiles; {_AGAIN}")


def _unsplit(choice: "Choice") -> None:
    if choice.split > 1:
        raise LiftError(f"{choice}: {choice.path} does not split K; {_AGAIN}")
