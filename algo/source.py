"""Where weights come from: a Hugging Face directory, a hub id, or a GGUF file.

A source names the linear layers of the model's decoder blocks (what is quantised), lists every
other tensor (carried over as it is) and reads them one at a time.
"""

import hashlib
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from algo.errors import LiftError
from algo.files import read_json
from algo.serving_config import saved_by_transformers

_IN_BLOCK = re.compile(r"(^|\.)\d+\.")  # a numbered module: one of the model's blocks
_ASSETS = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "chat_template.jinja",
)  # fmt: skip


def block_linears(model: nn.Module) -> list[str]:
    """Names of the linear layers inside numbered blocks, in the model's order."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and _IN_BLOCK.search(name)
    ]


def load_config(folder: Path) -> Any:
    """The transformers config of a model directory; code in the directory is never run.

    Raises:
        LiftError: there is none, or transformers does not know the model.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise LiftError(f"{folder}: config.json cannot be used ({error})") from None


def empty_model(config: Any) -> nn.Module:
    """The model of a transformers config, parameters without memory, buffers real."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    with init_empty_weights():
        model: nn.Module = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return model


def _fingerprint(files: list[Path]) -> str:
    """SHA-256 over names, sizes and the first and last megabyte of each file."""
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(1 << 20))
            stream.seek(max(0, size - (1 << 20)))
            digest.update(stream.read(1 << 20))
    return digest.hexdigest()


class Source(ABC):
    """One model to read.

    Attributes:
        name: what the user called it.
        linears: linear layers of the blocks, in order.
        config: the model's transformers config.
    """

    name: str
    linears: list[str]
    config: Any

    @abstractmethod
    def tensor_names(self) -> list[str]:
        """Every stored tensor."""

    @abstractmethod
    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, in its stored dtype."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when the weights do; what a resumed run compares."""

    @abstractmethod
    def save_assets(self, folder: Path) -> None:
        """Write config and tokenizer files into `folder`."""

    def carried_names(self) -> list[str]:
        """Tensors that are not weights of block linears."""
        quantised = {f"{name}.weight" for name in self.linears}
        return [name for name in self.tensor_names() if name not in quantised]

    def linear_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name in self.linears:
            yield name, self.tensor(f"{name}.weight")


class SafetensorsSource(Source):
    """A Hugging Face model directory with safetensors, read tensor by tensor."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._folder = folder
        if not (folder / "config.json").is_file():
            raise LiftError(f"{folder} holds no config.json: not a Hugging Face model directory")
        self.config = load_config(folder)
        if getattr(self.config, "quantization_config", None) is not None:
            what = "a copy of a liftquant checkpoint" if saved_by_transformers(folder) else ""
            raise LiftError(
                f"{folder} holds {what or 'quantised weights'}; give the original model"
            )
        self._where = self._index()
        model = empty_model(self.config)
        self.linears = block_linears(model)
        if not self.linears:
            raise LiftError(f"{folder}: the model has no linear layers in numbered blocks")
        self._check_tensors(model)

    def _check_tensors(self, model: nn.Module) -> None:
        """Every parameter of the model must be stored, in its shape, as a floating-point tensor."""
        from safetensors import safe_open

        tied = set(getattr(model, "_tied_weights_keys", None) or ())
        expected = model.state_dict()
        # what the model does not know (rotary tables of old releases) it does not need either
        self._where = {name: file for name, file in self._where.items() if name in expected}
        for name, parameter in expected.items():
            if name not in self._where:
                if name in tied and self.config.tie_word_embeddings:
                    continue
                raise LiftError(
                    f"{self._folder}: the files hold no tensor {name}, which the model needs"
                )
            with safe_open(self._where[name], framework="pt") as tensors:
                stored = tensors.get_slice(name)
                shape, dtype = tuple(stored.get_shape()), stored.get_dtype()
            if shape != tuple(parameter.shape) or dtype not in ("F64", "F32", "F16", "BF16"):
                raise LiftError(
                    f"{self._where[name]}: tensor {name} is {dtype} of shape {shape}; the model "
                    f"needs floating point of shape {tuple(parameter.shape)}"
                )

    def _index(self) -> dict[str, Path]:
        from safetensors import SafetensorError, safe_open

        index = self._folder / "model.safetensors.index.json"
        if index.is_file():
            listed = read_json(index).get("weight_map", {}).values()
            files = [self._folder / Path(name).name for name in sorted(set(listed))]
        else:
            files = sorted(self._folder.glob("*.safetensors"))
        if not files:
            raise LiftError(f"{self._folder} holds no .safetensors files (pickles are not read)")
        where = {}
        for file in files:
            try:
                with safe_open(file, framework="pt") as tensors:
                    where.update(dict.fromkeys(tensors.keys(), file))
            except (SafetensorError, OSError) as error:
                raise LiftError(f"{file} cannot be read ({error}); fetch it again") from None
        return where

    def tensor_names(self) -> list[str]:
        return sorted(self._where)

    def tensor(self, name: str) -> torch.Tensor:
        from safetensors import safe_open

        with safe_open(self._where[name], framework="pt") as tensors:
            tensor: torch.Tensor = tensors.get_tensor(name)
        return tensor

    def fingerprint(self) -> str:
        return _fingerprint(sorted(set(self._where.values())))

    def save_assets(self, folder: Path) -> None:
        for asset in _ASSETS:
            if (self._folder / asset).is_file():
                shutil.copyfile(self._folder / asset, folder / asset)


class GgufSource(Source):
    """A GGUF file, dequantised to float32 by transformers."""

    def __init__(self, file: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.name = str(file)
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
            self._tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        except Exception as error:  # whatever the reader raises, the file is what is at fault
            raise LiftError(
                f"{file} cannot be read as GGUF ({error}); is it damaged or truncated?"
            ) from error
        # the weights are plain now, and are to be saved as such
        model.hf_quantizer = None
        model.is_quantized = False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        self.config = model.config
        self._generation = model.generation_config
        self._tensors: dict[str, torch.Tensor] = model.state_dict()
        if model.config.tie_word_embeddings:
            self._tensors.pop("lm_head.weight", None)
        self.linears = block_linears(model)

    def tensor_names(self) -> list[str]:
        return list(self._tensors)

    def tensor(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def fingerprint(self) -> str:
        return _fingerprint([Path(self.name)])

    def save_assets(self, folder: Path) -> None:
        self.config.save_pretrained(folder)
        self._generation.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)


def open_source(model: str) -> Source:
    """The source behind what a user typed: a directory, a .gguf file, or a hub id.

    Raises:
        LiftError: there is no such thing, it cannot be fetched, or it is no model.
    """
    path = Path(model)
    if path.is_dir():
        if (path / "liftquant.json").is_file():
            raise LiftError(f"{path} is a liftquant checkpoint already; give the original model")
        return SafetensorsSource(path, model)
    if path.is_file():
        if path.suffix != ".gguf":
            raise LiftError(f"{path} is neither a .gguf file nor a model directory")
        return GgufSource(path)
    return SafetensorsSource(fetch(model), model)


def fetch(model: str) -> Path:
    """The directory that the hub's model of this id is fetched into.

    Raises:
        LiftError: this is no hub id, or it cannot be fetched.
    """
    if model.endswith(".gguf") or model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise LiftError(f"{model} does not exist (a file, a directory or a hub id was expected)")
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            model, allow_patterns=["*.safetensors", "*.index.json", *_ASSETS]
        )
    except Exception as error:  # network, permission, unknown id: the same to the user
        raise LiftError(
            f"{model} is no local path, and the hub did not deliver it ({type(error).__name__}); "
            "check the name and the network, or give a directory"
        ) from error
    return Path(folder)
