"""How transformers loads a checkpoint: the steps it asks a method for.

Importing this registers the method. Where ``import liftquant`` is waiting for transformers, the
first import below already comes back here, when there is no class to be registered yet. What
computes is imported when a checkpoint is loaded, so that others do not pay for it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from transformers.quantizers import auto
from transformers.quantizers.base import HfQuantizer

from algo.errors import LiftError
from algo.layer import replace_layers
from algo.serving_config import METHOD
from gpu.transformers_config import LiftquantConfig
from gpu.transformers_guard import drop_guard, drop_guarded_saving, guard_saving

if TYPE_CHECKING:
    from gpu.transformers_layers import Kind

_BIASES = (torch.bfloat16, torch.float16, torch.float32)
_FLOATING = ("F64", "F32", "F16", "BF16")
_DTYPES = dict(zip(("BF16", "F16", "F32", "U32"), (*_BIASES, torch.uint32), strict=True))

_Stored = dict[str, tuple[Path, tuple[int, ...], str]]  # file, shape, dtype


class LiftquantQuantizer(HfQuantizer):
    """Loads checkpoints and saves them; does not quantise, and does not train.

    Raises:
        LiftError: the model to load is not quantised, or its config.json is damaged.
    """

    def __init__(self, quantization_config: LiftquantConfig, **keywords: Any) -> None:
        super().__init__(quantization_config, **keywords)
        self._serving = quantization_config.serving()
        self._names: dict[str, str] = {}
        self._absent: set[str] = set()

    def validate_environment(self, *_: Any, device_map: Any = None, **__: Any) -> None:
        """Refuse what accelerate would move a layer's weights in and out for."""
        places = set(map(str, device_map.values())) if isinstance(device_map, dict) else set()
        if "disk" in places or ("cpu" in places and len(places) > 1):
            raise LiftError(
                f"device_map offloads to {', '.join(sorted(places & {'cpu', 'disk'}))}; give one "
                "that keeps the whole model on devices that compute, or on the CPU"
            )

    def update_attn_implementation(self, config: Any) -> Any:
        """The last step before files are looked for, when the guard has to be gone."""
        drop_guard(config)
        if getattr(config, "distributed_config", None) is not None:
            raise LiftError(
                "transformers cannot split a liftquant checkpoint over processes; vLLM can "
                "(--tensor-parallel-size)"
            )
        return config

    def _process_model_before_weight_loading(
        self, model: Any, checkpoint_files: Sequence[str] | None = None, **_: Any
    ) -> Any:
        """Make places for the stored tensors where the model has linear layers."""
        from gpu.transformers_layers import StoredLinear, module_names, stored_kinds

        self._names = module_names(model, self._serving, model.base_model_prefix)
        kinds = stored_kinds(self._serving)
        for layer, name in self._names.items():
            bias = model.get_submodule(name).bias
            if bias is not None:
                kinds[layer]["bias"] = (tuple(bias.shape), bias.dtype)
        stored = _stored([Path(file) for file in checkpoint_files or ()])
        if checkpoint_files is not None:
            kinds = _found(kinds, stored)
        replace_layers(model, {self._names[n]: StoredLinear(kind) for n, kind in kinds.items()})
        if checkpoint_files is not None:
            self._absent = _absent(model, stored)
        return model

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        """Make layers out of what was loaded."""
        from gpu.transformers_layers import serve

        _check_complete(model, self._absent)
        serve(model, self._names, self._serving)
        guard_saving(model)
        return model

    def _dequantize(self, model: Any, dtype: torch.dtype | None = None) -> Any:
        """The model in floating point, all parameters of `dtype`."""
        from gpu.transformers_layers import plain

        dtype = model.dtype if dtype is None else dtype
        plain(model, self._names, self._serving, dtype)
        drop_guarded_saving(model)
        for parameter in model.parameters():  # buffers, as rotary tables, keep their precision
            parameter.data = parameter.data.to(dtype)
        return model

    def is_serializable(self) -> bool:
        """Layers put into a state dict what the checkpoint stores of them."""
        return True

    @property
    def is_trainable(self) -> bool:
        return False


def _stored(files: Sequence[Path]) -> _Stored:
    """What the files hold, by name.

    Raises:
        LiftError: one cannot be read.
    """
    stored: _Stored = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118
                    piece = tensors.get_slice(key)
                    stored[key] = (file, tuple(piece.get_shape()), piece.get_dtype())
        except (SafetensorError, OSError) as error:
            raise LiftError(f"{file}: {error}; copy the checkpoint again") from None
    return stored


def _found(
    kinds: "Mapping[str, Mapping[str, Kind]]", stored: _Stored
) -> "dict[str, dict[str, Kind]]":
    """`kinds`, the biases' dtypes being those that are stored.

    Raises:
        LiftError: a tensor is in none of the files, or of another shape or dtype; transformers
            would go on with random numbers in its place, or with rounded ones.
    """
    found: dict[str, dict[str, Kind]] = {}
    for layer, wanted in kinds.items():
        found[layer] = {}
        for leaf, (shape, dtype) in wanted.items():
            key = f"{layer}.{leaf}"
            if key not in stored:
                raise _missing(key)
            file, shape_found, name = stored[key]
            dtype_found = _DTYPES.get(name)
            fits = dtype_found in (_BIASES if leaf == "bias" else (dtype,))
            if shape_found != shape or dtype_found is None or not fits:
                raise LiftError(
                    f"{file}: tensor {key} is {name} of shape {shape_found}; config.json asks for "
                    f"{dtype} of shape {shape}: one of them is of another checkpoint"
                )
            found[layer][leaf] = (shape, dtype_found)
    return found


def _absent(model: Any, stored: _Stored) -> set[str]:
    """Names of the parameters that no file holds, nor that of one they are tied to.

    Raises:
        LiftError: one is not stored as floating point; transformers would convert it.
    """
    prefix = model.base_model_prefix
    present = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        tries = (name, name.removeprefix(f"{prefix}."), f"{prefix}.{name}")
        key = next((key for key in tries if key in stored), None)
        if key is not None and stored[key][2] not in _FLOATING:
            file, _, dtype = stored[key]
            raise LiftError(
                f"{file}: tensor {key} is {dtype}, not floating point; copy the checkpoint again"
            )
        present[name] = key is not None and stored[key][1] == tuple(parameter.shape)
    tied = model.all_tied_weights_keys  # by the name that is not stored
    kept = {tied.get(name, name) for name, there in present.items() if there}
    return {name for name in present if tied.get(name, name) not in kept}


def _check_complete(model: Any, absent: set[str]) -> None:
    """Every parameter of the base model and of the output layer must have been loaded.

    Other heads may be new, as a classifier's is, which transformers then says.

    Raises:
        LiftError: one was not, which transformers has filled with random numbers.
    """
    # spread over devices, tensors may have lost the mark that they were loaded
    spread = len(set(getattr(model, "hf_device_map", {}).values())) > 1
    output = model.get_output_embeddings()
    needed = {id(p) for p in model.base_model.parameters()}
    needed |= {id(p) for p in output.parameters()} if output is not None else set()
    for name, parameter in model.named_parameters():
        loaded = name not in absent if spread else getattr(parameter, "_is_hf_initialized", False)
        if id(parameter) in needed and not loaded:
            raise _missing(name)


def _missing(name: str) -> LiftError:
    return LiftError(f"tensor {name} is in none of the files; copy the checkpoint again")


if METHOD not in auto.AUTO_QUANTIZER_MAPPING:
    auto.register_quantization_config(METHOD)(LiftquantConfig)
    auto.register_quantizer(METHOD)(LiftquantQuantizer)
    # there is no function for it: whose attributes override those of the checkpoint
    auto.LOADING_ATTRIBUTES_CONFIG_TYPES += (LiftquantConfig,)  # type: ignore[assignment]
