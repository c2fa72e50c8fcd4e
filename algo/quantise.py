"""From a model to a checkpoint: whiten, encode, pack, store, block by block, resumable."""

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from algo import checkpoint
from algo.checkpoint import UNFINISHED, Checkpoint, LayerEntry
from algo.code import LiftCode
from algo.errors import LiftError
from algo.files import read_json, unfinished_name, write_json
from algo.matrix import Axis, PackedMatrix, quantise_matrix
from algo.packing import stream_groups
from algo.source import Source
from algo.whitening import Whitening, random_whitening

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


def block_files(names: list[str]) -> dict[str, list[str]]:
    """Layers by the file of their block; a block is everything up to a name's first number."""
    blocks: dict[str, list[str]] = {}
    for name in names:
        match = _BLOCK.search(name)
        blocks.setdefault(name[: match.end()] if match else "", []).append(name)
    return {f"block-{i:03d}.safetensors": members for i, members in enumerate(blocks.values())}


def _check_widths(source: Source, recipe: Recipe) -> dict[str, tuple[int, int]]:
    """Shapes of all layers; every layer is looked at before any work is done."""
    shapes = {}
    for name, weight in source.linear_weights():
        rows, columns = weight.shape
        try:
            stream_groups(columns if recipe.axis == "in" else rows, recipe.code)
        except LiftError as error:
            raise LiftError(f"layer {name} ({rows}x{columns}): {error}") from None
        if not bool(torch.isfinite(weight).all()):
            row, column = (~torch.isfinite(weight)).nonzero()[0].tolist()
            raise LiftError(
                f"layer {name}: weight ({row}, {column}) is {weight[row, column].item()}; "
                "repair the model, NaN and infinity cannot be quantised"
            )
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
        whitened = whitening.apply(weight.float())
        return quantise_matrix(whitened, recipe.code, recipe.axis, on_progress=on_progress)
    except LiftError as error:
        raise LiftError(f"layer {name}: {error}") from None


def check_folder(folder: Path) -> None:
    """Raise LiftError where a checkpoint cannot be written, or an unfinished one resumed."""
    if (folder / checkpoint.MANIFEST).exists():
        raise LiftError(f"{folder} holds a finished checkpoint; choose another folder or remove it")
    if folder.exists() and not folder.is_dir():
        raise LiftError(f"{folder} is a file; choose another name for the folder")
    if folder.exists() and not (folder / UNFINISHED).exists() and any(folder.iterdir()):
        raise LiftError(f"{folder} exists and is not empty; choose another folder")


def _begin(folder: Path, settings: dict[str, object]) -> None:
    """Make the folder ready, or find it left by a run with the same settings."""
    check_folder(folder)
    if (folder / UNFINISHED).exists() and read_json(folder / UNFINISHED) != settings:
        raise LiftError(
            f"{folder} holds an unfinished run with other settings or another model; repeat "
            "those to resume it, or choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(unfinished_name(Path("*"))):  # of a run that was killed
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    write_json(folder / UNFINISHED, settings)


def _finished(path: Path, block: dict[str, LayerEntry], code: LiftCode) -> bool:
    """Whether a block's file holds all its layers, as a stopped run leaves it."""
    if not path.exists():
        return False
    try:
        for name, entry in block.items():
            checkpoint.read_matrix(path, name, entry, code)
    except LiftError:
        path.unlink()  # not what this run writes: make it again
        return False
    return True


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
    settings = {
        **asdict(recipe),
        "code": recipe.code.sha256,
        "weights": source.fingerprint(),
    }
    _begin(folder, settings)
    if on_start:
        on_start(sum(rows * columns for rows, columns in shapes.values()))
    sizes = sorted({columns for _, columns in shapes.values()})
    whitenings = {n: random_whitening(n, recipe.seed) for n in sizes}
    layers: dict[str, LayerEntry] = {}
    for file, block in block_files(list(shapes)).items():
        entries = {
            name: LayerEntry(
                shape=shapes[name], axis=recipe.axis, code=recipe.code.name,
                whitening=whitening_key(shapes[name][1]), file=file,
            )
            for name in block
        }  # fmt: skip
        layers |= entries
        if _finished(folder / file, entries, recipe.code):
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
    _save_assets(source, folder)
    codes = {recipe.code.name: recipe.code}
    checkpoint.write_manifest(folder, source.name, recipe.seed, codes, layers)
    (folder / UNFINISHED).unlink()
    return Checkpoint(folder)


def _save_assets(source: Source, folder: Path) -> None:
    """The model's config and tokenizer, made aside and moved in file by file."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".assets.") as scratch:
        source.save_assets(Path(scratch))
        for file in Path(scratch).iterdir():
            file.replace(folder / file.name)


def _named(report: Callable[[int, str], None], name: str) -> Callable[[int], None]:
    return lambda weights: report(weights, name)
