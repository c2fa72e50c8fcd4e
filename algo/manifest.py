"""``liftquant.json``: the list of a checkpoint's codes, layers and files, written last."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from algo.code import LiftCode
from algo.errors import LiftError
from algo.files import read_json, write_json
from algo.matrix import Axis

FORMAT: Literal[3] = 3
MANIFEST = "liftquant.json"
WHITENING = "whitening.safetensors"
CARRIED = "carried.safetensors"
UNFINISHED = "unfinished.json"  # the settings of a run that has not written its manifest yet
SENSITIVITIES = "sensitivities.json"  # what such a run found out before its first block
_NOT_LISTED = (MANIFEST, UNFINISHED, SENSITIVITIES)


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

    format: Literal[3]
    source: str
    seed: int
    codes: dict[str, dict[str, Any]]
    layers: dict[str, LayerEntry] = Field(min_length=1)
    files: dict[str, FileEntry]


def code_entry(code: LiftCode) -> dict[str, Any]:
    """A code as it is listed: its definition, and the hash of that."""
    return {**code.definition(), "sha256": code.sha256}


def file_entry(path: Path) -> FileEntry:
    """Size and SHA-256 of a file."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileEntry(bytes=path.stat().st_size, sha256=digest)


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
        codes={name: code_entry(code) for name, code in codes.items()},
        layers=dict(layers),
        files={name: file_entry(folder / name) for name in names},
    )
    write_json(folder / MANIFEST, manifest.model_dump())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint directory, its fields checked.

    Raises:
        LiftError: there is none, it is of another format, or a field is wrong.
    """
    if folder.is_file():
        raise LiftError(f"{folder} is a file; a checkpoint is a directory")
    if not folder.is_dir():
        raise LiftError(f"{folder} does not exist; `liftquant quantize` writes checkpoints")
    path = folder / MANIFEST
    if not path.is_file():
        raise LiftError(
            f"{folder} holds no {MANIFEST}: not a checkpoint, or an unfinished one "
            "(run the command that began it again to complete it)"
        )
    fields = read_json(path)
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        found = fields.get("format") if isinstance(fields, dict) else None
        newer = type(found) is int and found > FORMAT
        remedy = "pip install -U liftquant" if newer else "quantise the model again"
        raise LiftError(f"{path}: format {found!r}; this version reads format {FORMAT}; {remedy}")
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"])
        raise LiftError(f"{path}: {place}: {first['msg']}") from None
