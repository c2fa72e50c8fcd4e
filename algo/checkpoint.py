"""The checkpoint: a directory of safetensors files and one manifest, ``liftquant.json``.

    liftquant.json              format version, codes, layers, files with sizes and SHA-256
    block-NNN.safetensors       NAME.words (uint32), NAME.scales (bfloat16) of a block's layers, and
                                NAME.pre (bfloat16), the input scales of the layers that share the
                                input of layer NAME; NAME.turn_left, NAME.turn_right (bfloat16),
                                where their rotation was learned
    whitening.safetensors       KEY.left, KEY.right (float32), the rotations
    carried.safetensors         every other tensor of the model, as it was
    config.json, tokenizer.*    the model's own

The manifest is written last, so a directory without one is an unfinished run, never a checkpoint.
Nothing is pickled; every file is written aside and renamed.
"""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from algo.code import LiftCode
from algo.errors import LiftError
from algo.files import read_json, write_json, written_aside
from algo.matrix import Axis, PackedMatrix
from algo.whitening import Whitening

FORMAT: Literal[2] = 2
MANIFEST = "liftquant.json"
WHITENING = "whitening.safetensors"
CARRIED = "carried.safetensors"
UNFINISHED = "unfinished.json"  # the settings of a run that has not written its manifest yet
_TRANSFORM = ("pre", "turn_left", "turn_right")
_NOT_LISTED = (MANIFEST, UNFINISHED)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Strict):
    bytes: int
    sha256: str


class LayerEntry(_Strict):
    """One quantised linear layer.

    `whitening` names the rotation, `pre` the layer under whose name the input scales are stored
    (none: 1), `turns` that under which the learned turns of the rotation are; `proxy_error` is
    what calibration measured, relative to the layer's output.
    """

    shape: tuple[PositiveInt, PositiveInt]
    axis: Axis
    code: str
    whitening: str
    pre: str | None = None
    turns: str | None = None
    file: str
    proxy_error: float | None = None


class Manifest(_Strict):
    """What `liftquant.json` holds."""

    format: Literal[2]
    source: str
    seed: int
    codes: dict[str, dict[str, Any]]
    layers: dict[str, LayerEntry] = Field(min_length=1)
    files: dict[str, FileEntry]


def file_entry(path: Path) -> FileEntry:
    """Size and SHA-256 of a file."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileEntry(bytes=path.stat().st_size, sha256=digest)


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
    return {f"{name}.words": torch.from_numpy(matrix.words), f"{name}.scales": matrix.scales}


def write_manifest(
    folder: Path,
    source: str,
    seed: int,
    codes: Mapping[str, LiftCode],
    layers: Mapping[str, LayerEntry],
) -> None:
    """Complete a checkpoint: list and hash its files, write the manifest."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name not in _NOT_LISTED)
    manifest = Manifest(
        format=FORMAT,
        source=source,
        seed=seed,
        codes={n: {**c.definition(), "sha256": c.sha256} for n, c in codes.items()},
        layers=dict(layers),
        files={name: file_entry(folder / name) for name in names},
    )
    write_json(folder / MANIFEST, manifest.model_dump())


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
    stored = read_tensors(path, [f"{name}.words", f"{name}.scales"])
    words = stored[f"{name}.words"]
    if words.dtype != torch.uint32:
        raise LiftError(f"{path}, layer {name}: packed words are {words.dtype}, not uint32")
    try:
        return PackedMatrix(
            code=code,
            axis=entry.axis,
            shape=entry.shape,
            words=words.numpy(),
            scales=stored[f"{name}.scales"],
        )
    except LiftError as error:
        raise LiftError(f"{path}, layer {name}: {error}") from None


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
        pre = stored[names[0]] if entry.pre else None
        if entry.turns is None:
            return Whitening(left, right, pre)
        return Whitening(left, right).with_turns((stored[names[-2]], stored[names[-1]]), pre)
    except LiftError as error:
        raise LiftError(f"{path}, {entry.pre or entry.turns}: {error}") from None


def whitening_tensors(leader: str, whitening: Whitening) -> dict[str, torch.Tensor]:
    """What a block's file stores of a transform, under the first of the layers that share it."""
    tensors = {}
    if whitening.pre is not None:
        tensors[f"{leader}.pre"] = whitening.pre
    if whitening.turns is not None:
        tensors[f"{leader}.turn_left"], tensors[f"{leader}.turn_right"] = whitening.turns
    return tensors


class Checkpoint:
    """A checkpoint directory, opened for reading.

    Opening checks the manifest, the codes' hashes and the files' sizes; `verify` also hashes the
    files.

    Raises:
        LiftError: the directory is missing, unfinished, truncated or altered, or of another format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise LiftError(f"{folder} does not exist; `liftquant quantize` writes checkpoints")
        if not (folder / MANIFEST).is_file():
            raise LiftError(
                f"{folder} holds no {MANIFEST}: not a checkpoint, or an unfinished one "
                "(run the command that began it again to complete it)"
            )
        fields = read_json(folder / MANIFEST)
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            found = fields.get("format") if isinstance(fields, dict) else None
            raise LiftError(
                f"{folder / MANIFEST}: format {found!r}; this version reads format {FORMAT}"
            )
        try:
            self.manifest = Manifest.model_validate(fields)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(p) for p in first["loc"])
            raise LiftError(f"{folder / MANIFEST}: {place}: {first['msg']}") from None
        self.codes = {
            name: LiftCode.from_definition(fields, f"{folder / MANIFEST}, code {name}")
            for name, fields in self.manifest.codes.items()
        }
        for name, code in self.codes.items():
            if name != code.name:
                raise LiftError(f"{folder / MANIFEST}: code {name} is defined as {code.name}")
        for required in (WHITENING, CARRIED, "config.json"):
            if required not in self.manifest.files:
                raise LiftError(f"{folder / MANIFEST}: {required} is not among the files")
        for name, entry in self.manifest.layers.items():
            if entry.code not in self.codes or entry.file not in self.manifest.files:
                raise LiftError(
                    f"{folder / MANIFEST}: layer {name} names code {entry.code} and file "
                    f"{entry.file}, of which one is not listed"
                )
        for name, file in self.manifest.files.items():
            self._check_size(name, file.bytes)

    def _check_size(self, name: str, size: int) -> None:
        path = self.folder / name
        if path.parent != self.folder:
            raise LiftError(f"{self.folder / MANIFEST}: {name} lies outside the checkpoint")
        if not path.is_file():
            raise LiftError(f"{path} is missing; copy the checkpoint again")
        if path.stat().st_size != size:
            raise LiftError(
                f"{path} has {path.stat().st_size} bytes where the manifest says {size}: "
                "it is truncated or altered; copy the checkpoint again"
            )

    def verify(self) -> None:
        """Hash every file against the manifest; look at the transforms.

        Raises:
            LiftError: a file differs, or a transform does not fit its layers.
        """
        for name, file in self.manifest.files.items():
            found = file_entry(self.folder / name).sha256
            if found != file.sha256:
                raise LiftError(
                    f"{self.folder / name} hashes to {found[:12]}..., the manifest says "
                    f"{file.sha256[:12]}...: it was altered; copy the checkpoint again"
                )
        self.whitenings()

    def tensors(self, file: str, names: list[str] | None = None) -> dict[str, torch.Tensor]:
        """Tensors of one file; all of them by default."""
        return read_tensors(self.folder / file, names)

    def matrix(self, name: str) -> PackedMatrix:
        """The packed weights of a layer.

        Raises:
            LiftError: there is no such layer, or its tensors do not fit the manifest.
        """
        if name not in self.manifest.layers:
            raise LiftError(
                f"{self.folder} has no quantised layer {name!r}; "
                f"`liftquant inspect {self.folder} --layers` lists them"
            )
        entry = self.manifest.layers[name]
        return read_matrix(self.folder / entry.file, name, entry, self.codes[entry.code])

    def whitenings(self) -> dict[str, Whitening]:
        """The transform of every layer; layers that share an input share the object."""
        stored = self.tensors(WHITENING)
        found: dict[tuple[str, str | None, str | None], Whitening] = {}
        for name, entry in self.manifest.layers.items():
            key = entry.whitening
            if f"{key}.left" not in stored or f"{key}.right" not in stored:
                raise LiftError(f"{self.folder / WHITENING}: no transform {key}")
            pair = (key, entry.pre, entry.turns)
            if pair not in found:
                left, right = stored[f"{key}.left"], stored[f"{key}.right"]
                found[pair] = read_whitening(self.folder / entry.file, entry, left, right)
            if found[pair].size != entry.shape[1]:
                raise LiftError(
                    f"{self.folder / WHITENING}: transform {key} is for {found[pair].size} inputs, "
                    f"layer {name} has {entry.shape[1]}"
                )
        return {n: found[e.whitening, e.pre, e.turns] for n, e in self.manifest.layers.items()}

    def payload_bytes(self) -> dict[str, int]:
        """Bytes by kind: ``words``, ``scales``, ``whitening``, ``carried``, ``headers``.

        They add up to the size of the safetensors files on disk.
        """
        kinds = dict.fromkeys(("words", "scales", "whitening", "carried"), 0)
        total = 0
        for file, entry in self.manifest.files.items():
            if not file.endswith(".safetensors"):
                continue
            total += entry.bytes
            kind = {WHITENING: "whitening", CARRIED: "carried"}.get(file)
            for name, tensor in self.tensors(file).items():
                leaf = name.rpartition(".")[2]
                part = kind or ("whitening" if leaf in _TRANSFORM else leaf)
                if part not in kinds:
                    raise LiftError(f"{self.folder / file}: tensor {name} does not belong there")
                kinds[part] += tensor.nbytes
        return {**kinds, "headers": total - sum(kinds.values())}
