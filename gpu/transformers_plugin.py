"""transformers learns ``quant_method: liftquant``: `register`, once or often.

After it ``AutoModelForCausalLM.from_pretrained`` loads a checkpoint directory, `generate` and
`save_pretrained` work. ``import liftquant`` calls it (`liftquant.registration`).
"""


def register() -> None:
    """Tell transformers of the config and the quantizer."""
    from transformers.quantizers import auto

    from algo.serving_config import METHOD

    if METHOD in auto.AUTO_QUANTIZER_MAPPING:
        return
    from gpu.transformers_config import LiftquantConfig
    from gpu.transformers_quantizer import LiftquantQuantizer

    auto.register_quantization_config(METHOD)(LiftquantConfig)
    auto.register_quantizer(METHOD)(LiftquantQuantizer)
    # there is no function for it: whose attributes override those of the checkpoint
    auto.LOADING_ATTRIBUTES_CONFIG_TYPES += (LiftquantConfig,)  # type: ignore[assignment]
