"""Tiny causal language models of transformers with random parameters."""

from typing import Any

import torch


def random_model(name: str, fields: dict[str, Any], seed: int, spread: float | None = None) -> Any:
    """A model in float32 of which no bias and no norm is trivial.

    Args:
        name: of the family, as transformers' classes begin: ``Llama``.
        fields: of its config.
        seed: of all parameters.
        spread: standard deviation of matrices; as transformers draws them by default.
    """
    import transformers

    config = {"Gemma3": "Gemma3TextConfig"}.get(name, f"{name}Config")
    torch.manual_seed(seed)
    model = getattr(transformers, f"{name}ForCausalLM")(getattr(transformers, config)(**fields))
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += torch.randn_like(parameter) / 4
        elif spread is not None:
            parameter.data = torch.randn_like(parameter) * spread
    return model
