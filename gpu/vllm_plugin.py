"""The entry point ``vllm.general_plugins``: with it vLLM knows ``quant_method: liftquant``.

vLLM calls `register` in every process it starts, workers too, and may do so more than once.
"""


def register() -> None:
    """Tell vLLM of `gpu.vllm_config.LiftquantConfig`."""
    from vllm.model_executor.layers.quantization import (
        QUANTIZATION_METHODS,
        register_quantization_config,
    )

    from algo.serving_config import METHOD

    if METHOD in QUANTIZATION_METHODS:
        return
    from gpu.vllm_config import LiftquantConfig

    register_quantization_config(METHOD)(LiftquantConfig)
