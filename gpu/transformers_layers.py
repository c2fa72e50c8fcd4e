"""Quantised layers in a transformers model: empty while it loads, then a `LiftLinear` each."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from algo.activations import Digits
from algo.errors import LiftError
from algo.layer import replace_layers
from algo.matrix import PackedMatrix
from algo.serving_config import Basis, ServingConfig, layer_parts
from algo.whitening import Whitening
from gpu.linear import LiftLinear

Kind = tuple[tuple[int, ...], torch.dtype]


class StoredLinear(nn.Module):
    """The place of a quantised layer while a model loads: buffers as the checkpoint stores them.

    Args:
        stored: shape and dtype of every tensor by its last name: ``weight``, ``scales``, perhaps
            ``pre``, ``turn_left``, ``turn_right``, ``bias``.
    """

    def __init__(self, stored: Mapping[str, Kind]) -> None:
        super().__init__()
        self.kinds = dict(stored)
        for name, (shape, dtype) in stored.items():
            self.register_buffer(name, torch.empty(shape, dtype=dtype, device="meta"))

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        raise LiftError("the model is not loaded yet; call it once from_pretrained has returned")

    def loaded(self, layer: str) -> dict[str, torch.Tensor]:
        """The tensors by their last names, where they were loaded to.

        Raises:
            LiftError: one was not in what was loaded, or is offloaded.
        """
        tensors = {}
        for name, (_, dtype) in self.kinds.items():
            value = self.get_buffer(name)
            if value.is_meta:
                raise LiftError(
                    f"layer {layer}: {name} is offloaded; give a device_map that keeps the whole "
                    "model on devices that compute"
                )
            # transformers marks what it has loaded; what it has not found it makes up
            if not getattr(value, "_is_hf_initialized", False):
                raise LiftError(
                    f"layer {layer}: tensor {layer}.{name} is missing; copy the checkpoint again"
                )
            tensors[name] = value.to(dtype)
        return tensors


class ServedLinear(LiftLinear):
    """A `LiftLinear` of one layer whose ``state_dict`` is what the checkpoint stores of it.

    Args:
        matrix: packed weights.
        whitening: their basis.
        digits: 1 or 2.
        kept: the stored tensors but the words, by their last names: on the CPU, where no ``.to``
            reaches them, so that they are saved as they were loaded.
    """

    def __init__(
        self,
        matrix: PackedMatrix,
        whitening: Whitening,
        digits: Digits,
        kept: Mapping[str, torch.Tensor],
    ) -> None:
        super().__init__([matrix], whitening, digits, [kept.get("bias")])
        self.kept = dict(kept)

    def words(self) -> torch.Tensor:
        """The packed words as they are stored, on the CPU."""
        return torch.from_numpy(self.matrices()[0].words)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        for name, tensor in {"weight": self.words(), **self.kept}.items():
            destination[f"{prefix}{name}"] = tensor

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *others: Any
    ) -> None:
        """What is held already is taken; other weights have to come with their config."""
        held: dict[str, Any] = {}
        self._save_to_state_dict(held, prefix, keep_vars=False)
        for key, tensor in held.items():
            given = state_dict.get(key)
            if given is None or given.dtype != tensor.dtype or not torch.equal(given.cpu(), tensor):
                raise LiftError(
                    f"{key} is another tensor than the model was loaded with; load a checkpoint "
                    "with from_pretrained"
                )


def stored_kinds(config: ServingConfig) -> dict[str, dict[str, Kind]]:
    """Shapes and dtypes of the tensors stored under each layer's name, by their last names."""
    kinds: dict[str, dict[str, Kind]] = {name: {} for name in config.layers}
    for name in config.layers:
        for key, kind in config.stored(name).items():
            owner, _, leaf = key.rpartition(".")
            kinds[owner][leaf] = kind
    return kinds


def module_names(model: nn.Module, config: ServingConfig, prefix: str) -> dict[str, str]:
    """The model's name of every layer; a headless model drops the prefix of its base model.

    Raises:
        LiftError: the model has no such linear layer.
    """
    modules = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    names = {}
    for layer, entry in config.layers.items():
        tries = (layer, layer.removeprefix(f"{prefix}."), f"{prefix}.{layer}")
        found = next((name for name in tries if name in modules), None)
        if found is None or tuple(modules[found].weight.shape) != entry.shape:
            rows, columns = entry.shape
            raise LiftError(
                f"the model of config.json has no linear layer {layer} of {columns} inputs and "
                f"{rows} outputs; fetch the checkpoint's config.json again"
            )
        names[layer] = found
    return names


def serve(model: nn.Module, names: Mapping[str, str], config: ServingConfig) -> None:
    """Put a `ServedLinear` in the place of every `StoredLinear` that is loaded, one by one.

    Args:
        model: holds them.
        names: the model's name of every layer.
        config: of the checkpoint.

    Raises:
        LiftError: a tensor is missing or does not fit.
    """
    loaded = {layer: _stored(model, name).loaded(layer) for layer, name in names.items()}
    words = {layer: tensors.pop("weight") for layer, tensors in loaded.items()}
    small = {layer: {k: v.cpu() for k, v in tensors.items()} for layer, tensors in loaded.items()}
    known: dict[Basis, Whitening] = {}
    for layer, name in names.items():
        taken = words.pop(layer)
        device = taken.device
        tensors = {**_with_leaders(config, layer, small), f"{layer}.weight": taken.cpu()}
        del taken
        matrix, whitening = layer_parts(config, layer, tensors, known)
        served = ServedLinear(matrix, whitening, config.digits, small[layer]).eval()
        replace_layers(model, {name: served.to(device)})


def plain(
    model: nn.Module, names: Mapping[str, str], config: ServingConfig, dtype: torch.dtype
) -> None:
    """Put linear layers of floating point in the place of every `ServedLinear`.

    They compute the same but for the rounding of activations and weights. Arguments as of `serve`.
    """
    served = {layer: _served(model, name) for layer, name in names.items()}
    small = {layer: module.kept for layer, module in served.items()}
    for layer, name in names.items():
        module = served.pop(layer)
        tensors = {**_with_leaders(config, layer, small), f"{layer}.weight": module.words()}
        matrix, whitening = layer_parts(config, layer, tensors)
        dense = whitening.undo(matrix.dequantise().double())
        bias = small[layer].get("bias")
        rows, columns = dense.shape
        linear = nn.Linear(columns, rows, bias=bias is not None, dtype=dtype, device="meta")
        linear.weight = nn.Parameter(dense.to(module.device, dtype), requires_grad=False)
        if bias is not None:
            linear.bias = nn.Parameter(bias.to(module.device, dtype), requires_grad=False)
        replace_layers(model, {name: linear.eval()})


def _stored(model: nn.Module, name: str) -> StoredLinear:
    module = model.get_submodule(name)
    assert isinstance(module, StoredLinear)
    return module


def _served(model: nn.Module, name: str) -> ServedLinear:
    module = model.get_submodule(name)
    assert isinstance(module, ServedLinear)
    return module


def _with_leaders(
    config: ServingConfig, name: str, tensors: Mapping[str, Mapping[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """The tensors of a layer and of those under whose names its transform is stored."""
    layer = config.layers[name]
    return {
        f"{owner}.{leaf}": tensor
        for owner in (name, layer.pre, layer.turns)
        if owner is not None
        for leaf, tensor in tensors[owner].items()
    }
