"""From a model to a checkpoint: whiten, encode, pack, store, block by block, resumable."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from algo import layer_tensors
from algo.calibrated import CalibratedBlocks, Calibration, QuantisedBlock, dense_weight
from algo.checkpoint import Checkpoint
from algo.code import LiftCode
from algo.errors import LiftError
from algo.manifest import CARRIED, WHITENING, LayerEntry, write_manifest
from algo.matrix import Axis, layer_word_shape, quantise_matrix
from algo.resuming import begin, finished, note
from algo.serving_files import write_serving_files
from algo.source import Source
from algo.staged import StagedModel, block_of, blocks_of
from algo.whitening import Whitening, random_whitening

Report = Callable[[int, str], None]


@dataclass(frozen=True)
class Recipe:
    """How to quantise.

    Attributes:
        code: of every layer that `layer_codes` does not name.
        axis: direction of the streams.
        seed: of the whitening.
        calibration: text and settings for error feedback; None rounds to the nearest codeword.
        layer_codes: codes of single layers, as an allocation gives them.
    """

    code: LiftCode
    axis: Axis = "out"
    seed: int = 0
    calibration: Calibration | None = None
    layer_codes: Mapping[str, LiftCode] = field(default_factory=dict)

    def code_of(self, layer: str) -> LiftCode:
        return self.layer_codes.get(layer, self.code)

    def settings(self) -> dict[str, Any]:
        """All that the result depends on, as JSON values."""
        return {
            "code": self.code.sha256,
            "axis": self.axis,
            "seed": self.seed,
            "calibration": None if self.calibration is None else self.calibration.settings(),
            "layer_codes": {name: code.sha256 for name, code in self.layer_codes.items()},
        }


def whitening_key(inputs: int) -> str:
    """Layers of as many inputs share one rotation, so it costs nothing per layer."""
    return f"in{inputs}"


def block_files(names: list[str]) -> dict[str, list[str]]:
    """Layers by the file of their block."""
    blocks = enumerate(blocks_of(names).values())
    return {f"block-{index:03d}.safetensors": members for index, members in blocks}


def _check_layers(source: Source, recipe: Recipe) -> dict[str, tuple[int, int]]:
    """Shapes of all layers; every layer is looked at before any work is done."""
    shapes = {}
    for name, weight in source.linear_weights():
        rows, columns = weight.shape
        layer_word_shape(name, (rows, columns), recipe.code_of(name), recipe.axis)
        if not bool(torch.isfinite(weight).all()):
            row, column = (~torch.isfinite(weight)).nonzero()[0].tolist()
            raise LiftError(
                f"layer {name}: weight ({row}, {column}) is {weight[row, column].item()}; "
                "repair the model, NaN and infinity cannot be quantised"
            )
        shapes[name] = (rows, columns)
    for name in recipe.layer_codes:
        if name not in shapes:
            raise LiftError(f"a code is given for layer {name}, which the model does not have")
    return shapes


def _used_codes(recipe: Recipe, layers: list[str]) -> dict[str, LiftCode]:
    """The codes of all layers by name, which is what a manifest lists them under."""
    used = sorted({recipe.code_of(name) for name in layers}, key=lambda c: (c.rate, c.name))
    codes: dict[str, LiftCode] = {}
    for code in used:
        if codes.setdefault(code.name, code) is not code:
            raise LiftError(
                f"two codes of one name in a recipe, {code.name}; give each its own geometry"
            )
    return codes


class _Run:
    """The unfinished checkpoint: its settings, and what is known of the layers finished so far."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self._settings = settings
        saved = begin(folder, settings)
        self.layers = {n: LayerEntry.model_validate(e) for n, e in saved.get("layers", {}).items()}

    def _write(self) -> None:
        layers = {name: entry.model_dump() for name, entry in self.layers.items()}
        note(self.folder, self._settings, {"layers": layers})

    def save(self, file: str, block: QuantisedBlock, keys: Mapping[str, str]) -> None:
        """Store a finished block."""
        tensors: dict[str, torch.Tensor] = {}
        for members in block.groups:
            whitening = block.whitenings[members[0]]
            tensors |= layer_tensors.whitening_tensors(members[0], whitening)
            pre = None if whitening.pre is None else members[0]
            turns = None if whitening.turns is None else members[0]
            for name in members:
                matrix = block.matrices[name]
                tensors |= layer_tensors.matrix_tensors(name, matrix)
                self.layers[name] = LayerEntry(
                    shape=matrix.shape, axis=matrix.axis, code=matrix.code.name,
                    whitening=keys[name], pre=pre, turns=turns,
                    file=file, proxy_error=block.errors.get(name),
                )  # fmt: skip
        layer_tensors.save_tensors(self.folder / file, tensors)
        self._write()

    def stored(
        self, file: str, names: list[str], recipe: Recipe, rotation: Callable[[int], Whitening]
    ) -> dict[str, torch.Tensor] | None:
        """Dequantised weights of a block, if a stopped run finished it."""
        path = self.folder / file
        if not path.exists() or any(name not in self.layers for name in names):
            return None
        try:
            dense = {}
            for name in names:
                entry = self.layers[name]
                matrix = layer_tensors.read_matrix(path, name, entry, recipe.code_of(name))
                plain = rotation(entry.shape[1])
                whitening = layer_tensors.read_whitening(path, entry, plain.left, plain.right)
                dense[name] = dense_weight(matrix, whitening)
            return dense
        except LiftError:
            path.unlink()  # not what this run writes: make it again
            return None


def _nearest(
    source: Source, names: list[str], recipe: Recipe, rotation: Callable[[int], Whitening],
    report: Report | None,
) -> QuantisedBlock:  # fmt: skip
    """A block without calibration: every weight to its nearest codeword, layer by layer."""
    matrices, whitenings = {}, {}
    for name in names:
        weight = source.tensor(f"{name}.weight").float()
        whitenings[name] = rotation(weight.shape[1])
        try:
            matrices[name] = quantise_matrix(
                whitenings[name].weights(weight), recipe.code_of(name), recipe.axis,
                on_progress=None if report is None else _named(report, name),
            )  # fmt: skip
        except LiftError as error:
            raise LiftError(f"layer {name}: {error}") from None
    return QuantisedBlock(matrices, [[name] for name in names], whitenings)


def quantise_model(
    source: Source,
    recipe: Recipe,
    folder: Path,
    on_start: Callable[[int], None] | None = None,
    on_progress: Report | None = None,
) -> Checkpoint:
    """Quantise every block linear of a model into a checkpoint directory.

    A run that was stopped is resumed by the same call: finished blocks are kept.

    Args:
        source: the model.
        recipe: codes, axis, seed, calibration.
        folder: the checkpoint; must not exist, be empty, or be left by the same call.
        on_start: told the number of weights to quantise.
        on_progress: told the number of weights finished since the last call, and the layer.

    Raises:
        LiftError: the folder is taken, a weight is not finite, a layer is too narrow for its code,
            or the model cannot be run block by block.
    """
    shapes = _check_layers(source, recipe)
    _used_codes(recipe, source.linears)
    run = _Run(folder, {**recipe.settings(), "weights": source.fingerprint()})
    if on_start:
        on_start(sum(rows * columns for rows, columns in shapes.values()))
    rotations = {n: random_whitening(n, recipe.seed) for n in {s[1] for s in shapes.values()}}
    calibrated = None
    if recipe.calibration is not None:
        staged = StagedModel(source, recipe.calibration.windows, recipe.calibration.batch)
        calibrated = CalibratedBlocks(staged, recipe.calibration, rotations.__getitem__)
    for file, names in block_files(list(shapes)).items():
        dense = run.stored(file, names, recipe, rotations.__getitem__)
        if dense is not None:
            if calibrated:
                calibrated.replay(block_of(names[0]), dense)
            if on_progress:
                on_progress(sum(shapes[n][0] * shapes[n][1] for n in names), names[-1])
            continue
        if calibrated:
            codes = {name: recipe.code_of(name) for name in names}
            made = calibrated.quantise(block_of(names[0]), codes, recipe.axis, on_progress)
        else:
            made = _nearest(source, names, recipe, rotations.__getitem__, on_progress)
        run.save(file, made, {name: whitening_key(shapes[name][1]) for name in names})
    _finish(source, recipe, run, rotations)
    return Checkpoint(folder)


def _finish(source: Source, recipe: Recipe, run: _Run, rotations: Mapping[int, Whitening]) -> None:
    """Everything but the blocks, and the manifest last."""
    folder = run.folder
    factors = {}
    for n, whitening in sorted(rotations.items()):
        factors[f"{whitening_key(n)}.left"] = whitening.left
        factors[f"{whitening_key(n)}.right"] = whitening.right
    layer_tensors.save_tensors(folder / WHITENING, factors)
    carried = {name: source.tensor(name) for name in source.carried_names()}
    layer_tensors.save_tensors(folder / CARRIED, carried)
    _save_assets(source, folder)
    codes = _used_codes(recipe, source.linears)
    order = {name: run.layers[name] for name in source.linears}
    write_serving_files(folder, codes, order)
    write_manifest(folder, source.name, recipe.seed, codes, order)
    finished(folder)


def _save_assets(source: Source, folder: Path) -> None:
    """The model's config and tokenizer, made aside and moved in file by file."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".assets.") as scratch:
        source.save_assets(Path(scratch))
        for file in Path(scratch).iterdir():
            file.replace(folder / file.name)


def _named(report: Report, name: str) -> Callable[[int], None]:
    return lambda weights: report(weights, name)
