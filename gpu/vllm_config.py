"""The quantisation method ``liftquant`` as vLLM configures it, out of a model's config.json.

Imported in an environment that has vLLM.
"""

from collections.abc import Mapping
from typing import Any

import torch
from vllm.model_executor.layers.quantization.base_config import (
    QuantizationConfig,
    QuantizeMethodBase,
)

from algo.activations import LARGEST
from algo.errors import LiftError
from algo.serving_config import METHOD, ServingConfig
from gpu.vllm_shards import members_of


class LiftquantConfig(QuantizationConfig):  # type: ignore[misc]
    """Which linear layers are quantised, and how.

    Attributes:
        serving: the section of config.json.
        digits: int8 digits per activation; what config.json says, or ``liftquant_digits`` among
            the user's ``--hf-overrides``.
        transforms: tensors of whitenings by their stored names, collected while they are loaded:
            layers may share one. Empty again once all layers are built.
        unbuilt: how many layers wait for their tensors.
    """

    def __init__(self, serving: ServingConfig) -> None:
        super().__init__()
        self.serving = serving
        self.digits = serving.digits
        self.transforms: dict[str, torch.Tensor] = {}
        self.unbuilt = 0
        self._stored_names = {name: name for name in serving.layers}  # by vLLM's

    def __getstate__(self) -> dict[str, Any]:
        # as JSON: tensors that are sent to a worker would share memory with this process
        loading = {"transforms": {}, "unbuilt": 0}
        return {**self.__dict__, "serving": self.serving.as_json(), **loading}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = {**state, "serving": ServingConfig.parse(state["serving"])}

    def __repr__(self) -> str:
        return f"LiftquantConfig({len(self.serving.layers)} layers)"

    @classmethod
    def get_name(cls) -> str:
        return METHOD

    @classmethod
    def get_supported_act_dtypes(cls) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16, torch.float32]

    @classmethod
    def get_min_capability(cls) -> int:
        return 80  # the oldest that kernels are compiled for

    @staticmethod
    def get_config_filenames() -> list[str]:
        return []

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "LiftquantConfig":
        """Of the ``quantization_config`` of config.json.

        Raises:
            LiftError: it is damaged, or newer than this version.
        """
        return cls(ServingConfig.parse(config))

    def maybe_update_config(
        self, model_name: str, hf_config: Any = None, revision: str | None = None
    ) -> None:
        """Take what the user overrides.

        Raises:
            LiftError: it is neither 1 nor 2.
        """
        digits = getattr(hf_config, "liftquant_digits", self.digits)
        if digits not in LARGEST:
            raise LiftError(f"liftquant_digits={digits!r} is neither 1 (a8) nor 2 (a15)")
        self.digits = digits

    def apply_vllm_mapper(self, hf_to_vllm_mapper: Any) -> None:
        """Layers go by the names that a model class of vLLM gives them from here on."""
        self._stored_names = hf_to_vllm_mapper.apply_dict(self._stored_names)

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        """What runs a layer: None leaves it to vLLM.

        Raises:
            LiftError: some of the layers that vLLM fused are quantised and some are not, or what is
                quantised is no linear layer.
        """
        from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod

        members = members_of(prefix, self.packed_modules_mapping)
        quantised = [self._stored_names[name] for name in members if name in self._stored_names]
        if not isinstance(layer, LinearBase):
            inside = [name for name in self._stored_names if name.startswith(f"{prefix}.")]
            if quantised or (inside and "Experts" in type(layer).__name__):
                raise LiftError(
                    f"{prefix} is a {type(layer).__name__} of vLLM, and the checkpoint has "
                    f"{(quantised or inside)[0]} quantised; only linear layers can be served"
                )
            return None
        if not quantised:
            return UnquantizedLinearMethod()
        if len(quantised) < len(members):
            others = [name for name in members if name not in self._stored_names]
            raise LiftError(
                f"vLLM runs {', '.join(members)} as one layer, but the checkpoint has "
                f"{', '.join(others)} unquantised; quantise all of them or none"
            )
        from gpu.vllm_linear import LiftquantLinearMethod

        return LiftquantLinearMethod(self, quantised)
