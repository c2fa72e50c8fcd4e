"""The checkpoint: a directory of safetensors files and one manifest, ``liftquant.json``.

    liftquant.json              format version, codes, layers, files with sizes and SHA-256
    block-NNN.safetensors       NAME.weight (uint32, packed words), NAME.scales (bfloat16) of a
                                block's layers, and NAME.pre (bfloat16), the input scales of the
                                layers that share the input of layer NAME; NAME.turn_left,
                                NAME.turn_right (bfloat16), where their rotation was learned
    whitening.safetensors       KEY.left, KEY.right (float32), the rotations
    carried.safetensors         every other tensor of the model, as it was
    config.json                 the model's own, and what frameworks are told (algo.serving_config)
    model.safetensors.index.json    where the tensors are, for frameworks
    tokenizer.*                 the model's own

The manifest is written last, so a directory without one is an unfinished run, never a checkpoint.
Nothing is pickled; every file is written aside and renamed.
"""

from pathlib import Path

import torch

from algo.code import LiftCode
from algo.errors import LiftError
from algo.layer_tensors import read_matrix, read_tensors, read_whitening
from algo.manifest import CARRIED, MANIFEST, WHITENING, file_entry, read_manifest
from algo.matrix import PackedMatrix
from algo.serving_config import saved_by_transformers
from algo.whitening import Whitening

# kinds of what a block's file stores
_KINDS = {
    "weight": "words", "scales": "scales",
    "pre": "whitening", "turn_left": "whitening", "turn_right": "whitening",
}  # fmt: skip


class Checkpoint:
    """A checkpoint directory, opened for reading.

    Opening checks the manifest, the codes' hashes and the files' sizes; `verify` also hashes the
    files.

    Raises:
        LiftError: the directory is missing, unfinished, truncated or altered, or of another format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if saved_by_transformers(folder):
            raise LiftError(
                f"{folder} is a copy that transformers saved, without {MANIFEST}: from_pretrained "
                "and vLLM load it, this needs the checkpoint that it was made from"
            )
        self.manifest = read_manifest(folder)
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
                part = kind or _KINDS.get(name.rpartition(".")[2])
                if part is None:
                    raise LiftError(f"{self.folder / file}: tensor {name} does not belong there")
                kinds[part] += tensor.nbytes
        return {**kinds, "headers": total - sum(kinds.values())}
