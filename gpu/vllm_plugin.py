"""The entry point ``vllm.general_plugins``: with it vLLM knows ``quant_method: liftquant``.

vLLM calls `register` in every process it starts, workers too, and may do so more than once.
"""


def register() -> None:
    """Tell vLLM of `gpu.vllm_config.LiftquantConfig`, and to look for tensors that are missing."""
    from vllm.model_executor.layers.quantization import (
        QUANTIZATION_METHODS,
        register_quantization_config,
    )

    from algo.serving_config import METHOD

    if METHOD in QUANTIZATION_METHODS:
        return
    from gpu.vllm_config import LiftquantConfig
    from gpu.vllm_loading import check_what_came

    check_what_came()
    register_quantization_config(METHOD)(LiftquantConfig)
