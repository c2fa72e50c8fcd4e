"""liftquant: LLM weights at any bit-width, from quantiser to silicon.

The names below are imported on first use, so that ``import liftquant`` costs nothing. It makes
transformers' ``from_pretrained`` load checkpoints, whichever of the two is imported first.
"""

from importlib import import_module
from typing import Any

from liftquant.registration import register_with_transformers

_PUBLIC = {
    "Checkpoint": "algo.checkpoint",
    "LiftCode": "algo.code",
    "LiftError": "algo.errors",
    "LiftLinear": "gpu.linear",
    "LiftquantConfig": "gpu.transformers_config",
    "PackedMatrix": "algo.matrix",
    "Recipe": "algo.quantise",
    "ReferenceLinear": "algo.layer",
    "crosscheck": "liftquant.crosschecking",
    "decode_words": "algo.decode",
    "encode": "algo.search",
    "load_code": "algo.shipped",
    "load_quantised": "algo.model",
    "open_source": "algo.source",
    "quantise_matrix": "algo.matrix",
    "quantise_model": "algo.quantise",
    "shipped_codes": "algo.shipped",
}

__all__ = sorted(_PUBLIC)  # noqa: PLE0605
__version__ = "0.1.0"

register_with_transformers()


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"liftquant has no {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
