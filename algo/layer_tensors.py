"""The tensors of a checkpoint's files: what a layer is stored as, and reading it back."""

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from algo.code import LiftCode
from algo.errors import LiftError
from algo.files import written_aside
from algo.manifest import LayerEntry
from algo.matrix import Axis, PackedMatrix
from algo.whitening import Whitening


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """A safetensors file, written aside and renamed."""
    with written_aside(path) as aside:
        try:
            save_file({k: v.contiguous() for k, v in tensors.items()}, aside)
        except SafetensorError as error:  # a full disk, say
            raise LiftError(f"{path} cannot be written ({error})") from None


def matrix_tensors(name: str, matrix: PackedMatrix) -> dict[str, torch.Tensor]:
    """The tensors that a layer is stored as."""
    if sys.byteorder != "little":  # safetensors is little-endian, as are the words
        raise LiftError("checkpoints are written on little-endian machines only")
    return {f"{name}.weight": torch.from_numpy(matrix.words), f"{name}.scales": matrix.scales}


def read_tensors(path: Path, names: list[str] | None = None) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file; all of them by default.

    Raises:
        LiftError: the file cannot be read, or a tensor is missing.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            wanted = list(stored.keys()) if names is None else names
            return {name: stored.get_tensor(name) for name in wanted}
    except (SafetensorError, OSError) as error:
        raise LiftError(f"{path}: {error}; copy the checkpoint again") from None


def read_matrix(path: Path, name: str, entry: LayerEntry, code: LiftCode) -> PackedMatrix:
    """The packed weights of a layer, as the manifest describes them.

    Raises:
        LiftError: its tensors are missing or do not fit the description.
    """
    stored = read_tensors(path, [f"{name}.weight", f"{name}.scales"])
    try:
        return stored_matrix(name, entry.shape, entry.axis, code, stored)
    except LiftError as error:
        raise LiftError(f"{path}, layer {name}: {error}") from None


def stored_matrix(
    name: str,
    shape: tuple[int, int],
    axis: Axis,
    code: LiftCode,
    tensors: Mapping[str, torch.Tensor],
) -> PackedMatrix:
    """The packed weights of a layer from ``NAME.weight`` and ``NAME.scales``.

    Raises:
        LiftError: they do not fit the description.
    """
    words = tensors[f"{name}.weight"]
    if words.dtype != torch.uint32:
        raise LiftError(f"packed words are {words.dtype}, not uint32")
    return PackedMatrix(code, axis, shape, words.numpy(), tensors[f"{name}.scales"])


def read_whitening(
    path: Path, entry: LayerEntry, left: torch.Tensor, right: torch.Tensor
) -> Whitening:
    """The transform of a layer: a rotation, and input scales from the block's file.

    Raises:
        LiftError: the scales are missing or do not fit.
    """
    names = [f"{entry.pre}.pre"] if entry.pre else []
    if entry.turns:
        names += [f"{entry.turns}.turn_left", f"{entry.turns}.turn_right"]
    stored = read_tensors(path, names)
    try:
        return stored_whitening(left, right, entry.pre, entry.turns, stored)
    except LiftError as error:
        raise LiftError(f"{path}, {entry.pre or entry.turns}: {error}") from None


def stored_whitening(
    left: torch.Tensor,
    right: torch.Tensor,
    pre: str | None,
    turns: str | None,
    tensors: Mapping[str, torch.Tensor],
) -> Whitening:
    """A transform from its rotation and what is stored under the layers `pre` and `turns`.

    Raises:
        LiftError: they do not fit each other.
    """
    scales = tensors[f"{pre}.pre"] if pre else None
    if turns is None:
        return Whitening(left, right, scales)
    both = tensors[f"{turns}.turn_left"], tensors[f"{turns}.turn_right"]
    return Whitening(left, right).with_turns(both, scales)


def whitening_tensors(leader: str, whitening: Whitening) -> dict[str, torch.Tensor]:
    """What a block's file stores of a transform, under the first of the layers that share it."""
    tensors = {}
    if whitening.pre is not None:
        tensors[f"{leader}.pre"] = whitening.pre
    if whitening.turns is not None:
        tensors[f"{leader}.turn_left"], tensors[f"{leader}.turn_right"] = whitening.turns
    return tensors
