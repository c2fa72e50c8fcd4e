"""What frameworks are told of a checkpoint: ``quantization_config`` in its config.json.

It is self-contained: with the tensors that are stored of a layer it says all that serving it takes.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from algo.activations import Digits
from algo.code import LiftCode
from algo.errors import LiftError
from algo.files import read_json
from algo.layer_tensors import stored_matrix, stored_whitening
from algo.manifest import MANIFEST, WHITENING, LayerEntry, Manifest
from algo.matrix import Axis, PackedMatrix, layer_word_shape
from algo.whitening import Whitening, skew_entries

METHOD: Literal["liftquant"] = "liftquant"
VERSION: Literal[1] = 1
CONFIG = "config.json"
SECTION = "quantization_config"

Basis = tuple[str, str | None, str | None]  # keys of a rotation, of input scales, of turns


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ServedLayer(_Strict):
    """One quantised linear layer, as `algo.manifest.LayerEntry` has it."""

    shape: tuple[PositiveInt, PositiveInt] = Field(strict=False)
    axis: Axis
    code: str
    whitening: str
    pre: str | None = None
    turns: str | None = None


class _Rotation(_Strict):
    left: str
    right: str
    sizes: tuple[PositiveInt, PositiveInt] = Field(strict=False)


class _Fields(_Strict):
    quant_method: Literal["liftquant"]
    version: Literal[1]
    digits: Digits = 1
    codes: dict[str, dict[str, Any]]
    layers: dict[str, ServedLayer] = Field(min_length=1)
    rotations: dict[str, _Rotation]


class ServingConfig:
    """The section of config.json, checked: every code and rotation that a layer names is there.

    Attributes:
        digits: int8 digits per activation unless the user asks for others.
        layers: by name.

    Raises:
        LiftError: a code or rotation is damaged, or is missing, or does not fit its layer.
    """

    def __init__(self, fields: _Fields, where: str) -> None:
        self._fields = fields
        self.digits: Digits = fields.digits
        self.layers: Mapping[str, ServedLayer] = fields.layers
        self._codes = {
            name: LiftCode.from_definition(definition, f"{where}, code {name}")
            for name, definition in fields.codes.items()
        }
        self._rotations = {
            key: (
                _factor(stored.left, stored.sizes[0], f"{where}, rotation {key}, left"),
                _factor(stored.right, stored.sizes[1], f"{where}, rotation {key}, right"),
            )
            for key, stored in fields.rotations.items()
        }
        for name, layer in fields.layers.items():
            self._check(name, layer, where)

    def _check(self, name: str, layer: ServedLayer, where: str) -> None:
        for kind, key, known in (
            ("code", layer.code, self._codes),
            ("rotation", layer.whitening, self._rotations),
            ("input scales of layer", layer.pre, self.layers),
            ("turns of layer", layer.turns, self.layers),
        ):
            if key is not None and key not in known:
                raise LiftError(
                    f"{where}: layer {name} names {kind} {key}, which is not listed; fetch the "
                    "checkpoint's config.json again"
                )
        left, right = self._fields.rotations[layer.whitening].sizes
        if left * right != layer.shape[1]:
            raise LiftError(
                f"{where}: rotation {layer.whitening} is for {left * right} inputs, layer {name} "
                f"has {layer.shape[1]}; fetch the checkpoint's config.json again"
            )
        try:
            layer_word_shape(name, layer.shape, self._codes[layer.code], layer.axis)
        except LiftError as error:
            raise LiftError(f"{where}: {error}") from None

    def codes(self) -> dict[str, LiftCode]:
        """The codes that layers name."""
        return dict(self._codes)

    def rotation(self, key: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The factors that layers name `key`, float32 ``(a, a)`` and ``(b, b)``, before turns."""
        return self._rotations[key]

    def as_json(self) -> dict[str, Any]:
        """JSON values, which `parse` takes."""
        return self._fields.model_dump(mode="json")

    def stored(self, name: str) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shapes and dtypes of the tensors that `layer_parts` reads for a layer."""
        layer = self.layers[name]
        words = layer_word_shape(name, layer.shape, self._codes[layer.code], layer.axis)
        tensors: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            f"{name}.weight": (words, torch.uint32),
            f"{name}.scales": (layer.shape[:1], torch.bfloat16),
        }
        if layer.pre is not None:
            tensors[f"{layer.pre}.pre"] = (layer.shape[1:], torch.bfloat16)
        if layer.turns is not None:
            left, right = self._fields.rotations[layer.whitening].sizes
            tensors[f"{layer.turns}.turn_left"] = ((skew_entries(left),), torch.bfloat16)
            tensors[f"{layer.turns}.turn_right"] = ((skew_entries(right),), torch.bfloat16)
        return tensors

    @classmethod
    def from_manifest(
        cls, manifest: Manifest, rotations: Mapping[str, torch.Tensor]
    ) -> "ServingConfig":
        """What a checkpoint's files say, in one.

        Args:
            manifest: of the checkpoint.
            rotations: the tensors of ``whitening.safetensors``.
        """
        return cls.from_layers(manifest.codes, manifest.layers, rotations)

    @classmethod
    def from_layers(
        cls,
        codes: Mapping[str, Mapping[str, Any]],
        layers: Mapping[str, LayerEntry],
        rotations: Mapping[str, torch.Tensor],
    ) -> "ServingConfig":
        """The same before there is a manifest; arguments as its fields.

        Raises:
            LiftError: a code or a rotation that layers name is not given.
        """
        served = {
            name: ServedLayer(**entry.model_dump(include=set(ServedLayer.model_fields)))
            for name, entry in layers.items()
        }
        keys = {entry.whitening for entry in layers.values()}
        for key in sorted(keys):
            if f"{key}.left" not in rotations or f"{key}.right" not in rotations:
                raise LiftError(f"{WHITENING}: no transform {key}")
        fields = _Fields(
            quant_method=METHOD,
            version=VERSION,
            codes={name: dict(definition) for name, definition in codes.items()},
            layers=served,
            rotations={
                key: _rotation(rotations[f"{key}.left"], rotations[f"{key}.right"])
                for key in sorted(keys)
            },
        )
        return cls(fields, SECTION)

    @classmethod
    def parse(cls, section: Mapping[str, Any], where: str = SECTION) -> "ServingConfig":
        """The section as it was read.

        Args:
            section: JSON values.
            where: what errors call it.

        Raises:
            LiftError: it is of another method or a newer version, or a field is missing or wrong.
        """
        method, version = section.get("quant_method"), section.get("version")
        if method != METHOD:
            raise LiftError(f"{where}: quant_method {method!r} is not liftquant's")
        if type(version) is int and version > VERSION:
            raise LiftError(
                f"{where}: version {version} is newer than the {VERSION} that is known here; "
                "pip install -U liftquant"
            )
        try:
            fields = _Fields.model_validate(dict(section))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise LiftError(
                f"{where}: {place}: {first['msg']}; fetch the checkpoint's config.json again"
            ) from None
        return cls(fields, where)


def _rotation(left: torch.Tensor, right: torch.Tensor) -> _Rotation:
    def text(factor: torch.Tensor) -> str:
        values = factor.contiguous().numpy().astype("<f4")
        return base64.b64encode(values.tobytes()).decode()

    return _Rotation(left=text(left), right=text(right), sizes=(len(left), len(right)))


def _factor(text: str, size: int, where: str) -> torch.Tensor:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != 4 * size * size:
        raise LiftError(
            f"{where}: not the base64 of {size}x{size} float32; fetch the checkpoint's config.json "
            "again"
        )
    values = np.frombuffer(data, "<f4").astype(np.float32)
    return torch.from_numpy(values.reshape(size, size))


def is_quantised(folder: Path) -> bool:
    """Whether a model directory is a checkpoint, or what ``save_pretrained`` made of one."""
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else None
    section = config.get(SECTION) if isinstance(config, dict) else None
    return isinstance(section, dict) and section.get("quant_method") == METHOD


def saved_by_transformers(folder: Path) -> bool:
    """Whether a directory is not a checkpoint but what ``save_pretrained`` made of one."""
    return not (folder / MANIFEST).exists() and is_quantised(folder)


def layer_parts(
    config: ServingConfig,
    name: str,
    tensors: Mapping[str, torch.Tensor],
    known: dict[Basis, Whitening] | None = None,
) -> tuple[PackedMatrix, Whitening]:
    """A layer out of the tensors that are stored of it.

    Args:
        config: of the checkpoint.
        name: of the layer.
        tensors: by their stored names, at least those of ``config.stored(name)``; on the CPU.
        known: transforms of other layers of the checkpoint, to share; this one is added.

    Raises:
        LiftError: there is no such layer, or a tensor is missing or does not fit.
    """
    if name not in config.layers:
        raise LiftError(f"{SECTION} lists no layer {name}")
    layer = config.layers[name]
    missing = [key for key in config.stored(name) if key not in tensors]
    if missing:
        raise LiftError(f"layer {name}: tensor {missing[0]} is missing; copy the checkpoint again")
    known = {} if known is None else known
    basis = (layer.whitening, layer.pre, layer.turns)
    code = config.codes()[layer.code]
    try:
        matrix = stored_matrix(name, layer.shape, layer.axis, code, tensors)
        if basis not in known:
            left, right = config.rotation(layer.whitening)
            known[basis] = stored_whitening(left, right, layer.pre, layer.turns, tensors)
        return matrix, known[basis]
    except LiftError as error:
        raise LiftError(f"layer {name}: {error}; copy the checkpoint again") from None
