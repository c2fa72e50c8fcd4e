"""transformers learns ``quant_method: liftquant``: `register`, once or often.

After it ``AutoModelForCausalLM.from_pretrained`` loads a checkpoint directory, `generate` and
`save_pretrained` work. ``import liftquant`` calls it (`liftquant.registration`).
"""

from importlib import import_module


def register() -> None:
    """Tell transformers of the config and the quantizer."""
    import_module("gpu.transformers_quantizer")
