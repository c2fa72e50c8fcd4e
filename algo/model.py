"""A checkpoint, or an original model, as a transformers model on the CPU."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from algo.activations import Digits
from algo.checkpoint import Checkpoint
from algo.errors import LiftError
from algo.layer import ReferenceLinear, replace_layers
from algo.manifest import CARRIED, MANIFEST, UNFINISHED
from algo.source import Source, empty_model, load_config, open_source


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer stored in a checkpoint or model directory.

    Raises:
        LiftError: there is none that transformers can read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise LiftError(f"{folder}: no tokenizer can be loaded ({error})") from None


def load_quantised(checkpoint: Checkpoint, digits: Digits | None = None) -> nn.Module:
    """The model with a `ReferenceLinear` in place of every quantised layer.

    Args:
        checkpoint: an open checkpoint.
        digits: None for floating-point products, 1 or 2 for the integer layer.

    Raises:
        LiftError: the checkpoint's tensors do not make up the model of its config.json.
    """
    model = empty_model(load_config(checkpoint.folder))
    carried = checkpoint.tensors(CARRIED)
    whitenings = checkpoint.whitenings()
    # a layer takes its bias with it, out of what is loaded into the rest of the model
    layers = {
        name: ReferenceLinear(
            checkpoint.matrix(name), whitenings[name], carried.pop(f"{name}.bias", None), digits
        )
        for name in checkpoint.manifest.layers
    }
    replace_layers(model, layers)
    return _filled(model, carried, str(checkpoint.folder))


def _filled(model: nn.Module, tensors: dict[str, torch.Tensor], where: str) -> nn.Module:
    """The model with its parameters; all of them, and nothing else."""
    try:
        result = model.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:  # shapes that differ
        first = str(error).splitlines()[-1].strip()
        raise LiftError(f"{where}: tensors do not fit config.json: {first}") from None
    model.tie_weights()  # type: ignore[operator]
    hollow = [n for n, p in model.named_parameters() if p.is_meta]
    if result.unexpected_keys or hollow:
        raise LiftError(
            f"{where}: tensors do not fit config.json "
            f"(unexpected {result.unexpected_keys[:3]}, missing {hollow[:3]})"
        )
    return model.eval()


def source_tokenizer(source: Source) -> Any:
    """The tokenizer that comes with a source.

    Raises:
        LiftError: there is none that transformers can read.
    """
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        source.save_assets(Path(scratch))
        return load_tokenizer(Path(scratch))


def load_original(model: str) -> tuple[nn.Module, Any]:
    """An unquantised model and its tokenizer, from a directory, hub id or GGUF file."""
    source = open_source(model)
    tensors = {name: source.tensor(name) for name in source.tensor_names()}
    return _filled(empty_model(source.config), tensors, model), source_tokenizer(source)


def load_any(model: str, digits: Digits | None = None) -> tuple[nn.Module, Any]:
    """A checkpoint directory, whose files are hashed first, or what `load_original` takes."""
    folder = Path(model)
    if (folder / MANIFEST).exists() or (folder / UNFINISHED).exists():
        checkpoint = Checkpoint(folder)
        checkpoint.verify()
        return load_quantised(checkpoint, digits), load_tokenizer(folder)
    return load_original(model)
