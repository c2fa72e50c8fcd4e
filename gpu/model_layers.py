"""Linear layers of known models, as they are stacked: q/k/v and gate/up read one input."""

import re

from algo.errors import LiftError

# (rows, K) by the configs: hidden 4096, 8192, 576; heads of 128, 128, 64; 8, 8, 3 heads of keys
MODELS: dict[str, dict[str, tuple[int, int]]] = {
    "llama-3-8b": {
        "qkv": (6144, 4096), "o": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336),
    },
    "llama-3-70b": {
        "qkv": (10240, 8192), "o": (8192, 8192), "gate_up": (57344, 8192), "down": (8192, 28672),
    },
    "smollm2-135m": {
        "qkv": (960, 576), "o": (576, 576), "gate_up": (3072, 576), "down": (576, 1536),
    },
}  # fmt: skip
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
