"""Linear layers of known models, as they are stacked: q/k/v and gate/up read one input."""

import re

from algo.errors import LiftError
from gpu.llama_models import MODELS as llama_models
from gpu.llama_models import LlamaConfig

SMOLLM2 = LlamaConfig(576, 1536, 30, 9, 3, 49152, 8192)


def stacked(config: LlamaConfig) -> dict[str, tuple[int, int]]:
    """(rows, K) of a block's stacks."""
    hidden, between = config.hidden, config.intermediate
    keys = config.kv_heads * (hidden // config.heads)
    return {
        "qkv": (hidden + 2 * keys, hidden),
        "o": (hidden, hidden),
        "gate_up": (2 * between, hidden),
        "down": (hidden, between),
    }


MODELS = {
    name: stacked(config) for name, config in (*llama_models.items(), ("smollm2-135m", SMOLLM2))
}
_SHAPE = re.compile(r"([1-9]\d{0,6})x([1-9]\d{0,6})")


def parse_layers(text: str) -> dict[str, tuple[int, int]]:
    """Layers by name, from shapes such as ``6144x4096`` and names of models, with commas between.

    Raises:
        LiftError: a part is neither, or there is none.
    """
    found: dict[str, tuple[int, int]] = {}
    for part in (p.strip().lower() for p in text.split(",")):
        shape = _SHAPE.fullmatch(part)
        if shape:
            found[part] = (int(shape[1]), int(shape[2]))
        elif part in MODELS:
            found |= {f"{part} {name}": size for name, size in MODELS[part].items()}
        elif part:
            raise LiftError(
                f"--shapes: {part!r} is neither ROWSxCOLUMNS, say 6144x4096, nor one of "
                f"{', '.join(MODELS)}"
            )
    if not found:
        raise LiftError(f"--shapes: nothing named; say 6144x4096 or {next(iter(MODELS))}")
    return found
