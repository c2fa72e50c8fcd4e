"""The layers that tuning and benchmarks run: random words by shape and rate, or a checkpoint's."""

from collections.abc import Callable, Sequence
from pathlib import Path

from algo.checkpoint import Checkpoint
from algo.errors import LiftError
from algo.matrix import AXES, PackedMatrix, layer_word_shape
from algo.shipped import best_code
from gpu.model_layers import parse_layers
from gpu.random_layer import random_matrix
from liftquant.crosschecking import one_layer_per_shape

MakeLayers = Callable[[], dict[str, PackedMatrix]]


def layer_source(
    checkpoint: Path | None, shapes: str, rates: Sequence[float], axis: str
) -> MakeLayers:
    """What makes the layers, by name: wrong input is found here, the work is done by the call.

    Args:
        checkpoint: its layers, one of every shape, axis and code; the rest counts without one.
        shapes: as `parse_layers` takes them.
        rates: bits per weight; the best linear code with a 12-bit window of each.
        axis: direction of the streams.

    Raises:
        LiftError: there is no such checkpoint, shape, code or axis, or a shape is too narrow.
    """
    if axis not in AXES:
        raise LiftError(f"--axis {axis} is none of {', '.join(AXES)}")
    if checkpoint is not None:
        opened = Checkpoint(checkpoint)
        names = one_layer_per_shape(opened)
        entries = opened.manifest.layers
        return lambda: {f"{name}, {entries[name].code}": opened.matrix(name) for name in names}
    named, codes = parse_layers(shapes), [best_code(rate) for rate in rates]
    along = AXES[AXES.index(axis)]  # known to be one of them
    for name, shape in named.items():
        for code in codes:
            layer_word_shape(name, shape, code, along)
    return lambda: {
        f"{name}, {code.name}": random_matrix(shape, code, along)
        for name, shape in named.items()
        for code in codes
    }
