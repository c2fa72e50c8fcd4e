"""The shapes of a model, from its config alone: nothing of its weights is read or held."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from algo.errors import LiftError
from algo.footprint import TensorShape
from algo.kv_cache import LayerCache, layer_caches
from algo.manifest import MANIFEST
from algo.source import Source, block_linears, empty_model, load_config

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_STORED = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class ModelShapes:
    """What there is to store and to run.

    Attributes:
        linears: ``(rows, columns)`` of every layer that is quantised, in the model's order.
        carried: every other stored tensor.
        embedding: name of the token embedding's weight.
        head: name of the output layer's weight; None where it is the embedding (tied).
        tied: tensors that are others under a second name; files may hold them all the same.
        hidden: width of the residual stream.
        vocabulary: outputs of the head.
        caches: key-value cache of each decoder layer.
        longest: tokens the model was made for, where its config says so.
        dtypes_from: where the dtypes of `carried` were taken from, for people.
    """

    linears: Mapping[str, tuple[int, int]]
    carried: Mapping[str, TensorShape]
    embedding: str
    head: str | None
    tied: Mapping[str, TensorShape]
    hidden: int
    vocabulary: int
    caches: tuple[LayerCache, ...]
    longest: int | None
    dtypes_from: str

    @property
    def weights(self) -> int:
        """Weights that are quantised."""
        return sum(rows * columns for rows, columns in self.linears.values())


def _weight_name(model: nn.Module, module: Any) -> str | None:
    return next((f"{name}.weight" for name, m in model.named_modules() if m is module), None)


def config_shapes(config: Any, dtype: torch.dtype, dtypes_from: str) -> ModelShapes:
    """Shapes of the model of a transformers config, carried tensors in `dtype`.

    Raises:
        LiftError: transformers cannot build the model, nothing of it would be quantised, or its
            attention is not understood.
    """
    if getattr(config, "quantization_config", None) is not None:
        raise LiftError("the config is of quantised weights; give that of the original model")
    try:
        model: Any = empty_model(config)
    except Exception as error:  # whatever the model's code raises, the config is at fault
        raise LiftError(
            f"no causal language model can be made of the config ({type(error).__name__}: {error})"
        ) from None
    state = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    names = block_linears(model)
    if not names:
        raise LiftError("the model has no linear layers in numbered blocks: nothing to quantise")
    linears = {name: (state[f"{name}.weight"][0], state[f"{name}.weight"][1]) for name in names}
    embedding = _weight_name(model, model.get_input_embeddings())
    head = _weight_name(model, model.get_output_embeddings())
    if embedding is None or head is None:
        raise LiftError("the model has no token embedding or no output layer that could be found")
    vocabulary = state[head][0]
    keys = set(getattr(model, "_tied_weights_keys", None) or ())
    tied_names = keys if getattr(config, "tie_word_embeddings", False) else set()
    quantised = {f"{name}.weight" for name in names}
    others = {n: TensorShape(shape, dtype) for n, shape in state.items() if n not in quantised}
    decoder = config.get_text_config(decoder=True)
    return ModelShapes(
        linears=linears,
        carried={name: tensor for name, tensor in others.items() if name not in tied_names},
        embedding=embedding,
        head=None if head in tied_names else head,
        tied={name: tensor for name, tensor in others.items() if name in tied_names},
        hidden=state[embedding][1],
        vocabulary=vocabulary,
        caches=layer_caches(decoder, linears),
        longest=getattr(decoder, "max_position_embeddings", None),
        dtypes_from=dtypes_from,
    )


def source_shapes(source: Source) -> ModelShapes:
    """Shapes of a model whose weights are at hand, carried tensors in their stored dtypes.

    Raises:
        LiftError: as `config_shapes`.
    """
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        source.save_assets(Path(scratch))
        config = load_config(Path(scratch))
    shapes = config_shapes(config, torch.bfloat16, "read from the weights")
    stored = {}
    for name in source.carried_names():
        tensor = source.tensor(name)
        stored[name] = TensorShape(tuple(tensor.shape), tensor.dtype)
    return replace(shapes, carried=stored)


def read_shapes(model: str, dtype: torch.dtype | None = None) -> ModelShapes:
    """Shapes of what a user typed; of weights at most the headers are read.

    Args:
        model: a ``config.json``, a model directory, a .gguf file, or a hub id.
        dtype: of the carried tensors. None to take what the files' headers say, else what the
            config says.

    Raises:
        LiftError: there is no such thing, or it is no model that can be planned for.
    """
    path = Path(model)
    if path.suffix == ".gguf":
        config, usual, dtypes_from = _gguf_config(path), torch.float32, "GGUF is dequantised to it"
    else:
        file = _config_file(model)
        config = _load(file)
        stated = getattr(config, "dtype", None)
        usual = stated if isinstance(stated, torch.dtype) else torch.bfloat16
        dtypes_from = "config.json says so" if usual is stated else "config.json says nothing"
    if dtype is not None:
        usual, dtypes_from = dtype, "as asked"
    try:
        shapes = config_shapes(config, usual, dtypes_from)
    except LiftError as error:
        raise LiftError(f"{model}: {error}") from None
    stored = _stored_dtypes(path) if dtype is None and path.is_dir() else {}
    if not stored:
        return shapes
    carried = {
        name: TensorShape(tensor.shape, stored.get(name, tensor.dtype))
        for name, tensor in {**shapes.carried, **shapes.tied}.items()
        if name in shapes.carried or name in stored
    }
    return replace(shapes, carried=carried, dtypes_from="read from the files' headers")


def _load(file: Path) -> Any:
    try:
        return load_config(file)
    except LiftError:
        raise
    except Exception as error:  # a field of the wrong type, say: transformers' own exceptions
        raise LiftError(f"{file} cannot be used ({error})") from None


def _config_file(model: str) -> Path:
    """The config.json behind a path or a hub id."""
    path = Path(model)
    if path.is_dir():
        if (path / MANIFEST).is_file():
            raise LiftError(f"{path} is a liftquant checkpoint already; give the original model")
        if not (path / "config.json").is_file():
            raise LiftError(f"{path} holds no config.json: not a Hugging Face model directory")
        return path / "config.json"
    if path.is_file():
        return path
    if model.count("/") != 1 or model.startswith((".", "/", "~")) or path.suffix == ".json":
        raise LiftError(
            f"{model} does not exist (a config.json, a directory, a .gguf file or a hub id was "
            "expected)"
        )
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model, "config.json"))
    except Exception as error:  # network, permission, unknown id: the same to the user
        raise LiftError(
            f"{model} is no local path, and the hub did not deliver its config.json "
            f"({type(error).__name__}); check the name and the network, or give a config.json"
        ) from error


def _gguf_config(file: Path) -> Any:
    from transformers import AutoConfig

    if not file.is_file():
        raise LiftError(f"{file} does not exist")
    try:
        return AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    except Exception as error:  # whatever the reader raises, the file is what is at fault
        raise LiftError(
            f"{file} cannot be read as GGUF ({error}); is it damaged or truncated?"
        ) from error


def _stored_dtypes(folder: Path) -> dict[str, torch.dtype]:
    """Dtypes by tensor as the headers of a directory's safetensors files say; it may have none."""
    from safetensors import SafetensorError, safe_open

    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (no mapping)
                    stored = tensors.get_slice(name).get_dtype()
                    if stored in _STORED:
                        found[name] = _STORED[stored]
        except (SafetensorError, OSError) as error:
            raise LiftError(f"{file} cannot be read ({error}); fetch it again") from None
    return found
