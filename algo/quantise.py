"""From a model to a checkpoint: whiten, encode, pack, store, block by block, resumable."""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import torch

from algo import checkpoint
from algo.checkpoint import Checkpoint, LayerEntry
from algo.code import LiftCode
from algo.errors import LiftError
from algo.files import read_json, write_json
from algo.matrix import Axis, PackedMatrix, quantise_matrix
from algo.packing import stream_groups
from algo.source import Source
from algo.whitening import Whitening, random_whitening

_UNFINISHED = "unfinished.json"  # the settings of a run that has not written its manifest yet
_BLOCK = re.compile(r"(?:^|\.)(\d+)\.")


@dataclass(frozen=True)
class Recipe:
    """How to quantise: one code, one axis, the seed of the whitening."""

    code: LiftCode
    axis: Axis = "out"
    seed: int = 0


def whitening_key(inputs: int) -> str:
    """Layers of as many inputs share one transform, so it costs nothing per layer."""
    return f"in{inputs}"


def _block_file(name: str) -> str:
    match = _BLOCK.search(name)
    return f"block-{int(match.group(1)) if match else 0:03d}.safetensors"


def _check_widths(source: Source, recipe: Recipe) -> dict[str, tuple[int, int]]:
    """Shapes of all layers; every layer is checked before any work is done."""
    shapes = {}
    for name, weight in source.linear_weights():
        rows, columns = weight.shape
        try:
            stream_groups(columns if recipe.axis == "in" else rows, recipe.code)
        except LiftError as error:
            raise LiftError(f"layer {name} ({rows}x{columns}): {error}") from None
        shapes[name] = (rows, columns)
    return shapes


def _quantise_layer(
    name: str,
    weight: torch.Tensor,
    whitening: Whitening,
    recipe: Recipe,
    on_progress: Callable[[int], None] | None,
) -> PackedMatrix:
    try:
        if not bool(torch.isfinite(weight).all()):  # whitening would spread it over its whole row
            row, column = (~torch.isfinite(weight)).nonzero()[0].tolist()
            raise LiftError(
                f"weight ({row}, {column}) is {weight[row, column].item()}; "
                "repair the model, NaN and infinity cannot be quantised"
            )
        whitened = whitening.apply(weight.float())
        return quantise_matrix(whitened, recipe.code, recipe.axis, on_progress=on_progress)
    except LiftError as error:
        raise LiftError(f"layer {name}: {error}") from None


def _begin(folder: Path, settings: dict[str, object]) -> None:
    """Make the folder ready, or find it left by a run with the same settings."""
    if (folder / checkpoint.MANIFEST).exists():
        raise LiftError(f"{folder} holds a finished checkpoint; choose another folder or remove it")
    if (folder / _UNFINISHED).exists():
        if read_json(folder / _UNFINISHED) != settings:
            raise LiftError(
                f"{folder} holds an unfinished run with other settings; repeat those to resume "
                "it, or choose another folder"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LiftError(f"{folder} exists and is not empty; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _UNFINISHED, settings)


def quantise_model(
    source: Source,
    recipe: Recipe,
    folder: Path,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[int, str], None] | None = None,
) -> Checkpoint:
    """Quantise every block linear of a model into a checkpoint directory.

    A run that was stopped is resumed by the same call: finished blocks are kept.

    Args:
        source: the model.
        recipe: code, axis, seed.
        folder: the checkpoint; must not exist, be empty, or be left by the same call.
        on_start: told the number of weights to quantise.
        on_progress: told the number of weights finished since the last call, and the layer.

    Raises:
        LiftError: the folder is taken, a weight is not finite, a layer is too narrow for the code.
    """
    shapes = _check_widths(source, recipe)
    settings = {**asdict(recipe), "code": recipe.code.sha256, "source": source.name}
    _begin(folder, settings)
    if on_start:
        on_start(sum(rows * columns for rows, columns in shapes.values()))
    sizes = sorted({columns for _, columns in shapes.values()})
    whitenings = {n: random_whitening(n, recipe.seed) for n in sizes}
    layers: dict[str, LayerEntry] = {}
    for file, names in groupby(shapes, key=_block_file):
        block = list(names)
        for name in block:
            key = whitening_key(shapes[name][1])
            layers[name] = LayerEntry(
                shape=shapes[name], axis=recipe.axis, code=recipe.code.name, whitening=key,
                file=file,
            )  # fmt: skip
        if (folder / file).exists():  # written whole or not at all, so finished
            if on_progress:
                on_progress(sum(shapes[n][0] * shapes[n][1] for n in block), block[-1])
            continue
        tensors: dict[str, torch.Tensor] = {}
        for name in block:
            report = None if on_progress is None else _named(on_progress, name)
            weight = source.tensor(f"{name}.weight")
            matrix = _quantise_layer(name, weight, whitenings[shapes[name][1]], recipe, report)
            tensors |= checkpoint.matrix_tensors(name, matrix)
        checkpoint.save_tensors(folder / file, tensors)
    factors = {}
    for n, whitening in whitenings.items():
        factors[f"{whitening_key(n)}.left"] = whitening.left
        factors[f"{whitening_key(n)}.right"] = whitening.right
    checkpoint.save_tensors(folder / checkpoint.WHITENING, factors)
    carried = {name: source.tensor(name) for name in source.carried_names()}
    checkpoint.save_tensors(folder / checkpoint.CARRIED, carried)
    source.save_assets(folder)
    codes = {recipe.code.name: recipe.code}
    checkpoint.write_manifest(folder, source.name, recipe.seed, codes, layers)
    (folder / _UNFINISHED).unlink()
    return Checkpoint(folder)


def _named(report: Callable[[int, str], None], name: str) -> Callable[[int], None]:
    return lambda weights: report(weights, name)
