"""The files by which frameworks load a checkpoint: additions to its config.json, and an index.

The directory that `algo.quantise` writes is one that transformers and vLLM load as it is, once they
know the method. Without it transformers would go on and leave the weights random; the entry
``transformers_weights`` of config.json, which it takes for the name of a file, makes it stop and
quote what is to be done instead.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from algo.code import LiftCode
from algo.files import read_json, write_json
from algo.layer_tensors import read_tensors
from algo.manifest import CARRIED, WHITENING, LayerEntry, code_entry
from algo.serving_config import CONFIG, SECTION, ServingConfig

INDEX = "model.safetensors.index.json"
GUARD_KEY = "transformers_weights"
GUARD_START = "this is a liftquant checkpoint"  # in every version
GUARD = (
    f"{GUARD_START}, which from_pretrained loads after "
    "`pip install liftquant` and `import liftquant` (imported already? then config.json has lost "
    "its quantization_config: copy it again)"
)


def write_serving_files(
    folder: Path, codes: Mapping[str, LiftCode], layers: Mapping[str, LayerEntry]
) -> None:
    """Add to a checkpoint what frameworks need.

    Args:
        folder: holds every other file but the manifest.
        codes: by name.
        layers: as the manifest is to list them.
    """
    rotations = read_tensors(folder / WHITENING)
    definitions = {name: code_entry(code) for name, code in codes.items()}
    section = ServingConfig.from_layers(definitions, layers, rotations).as_json()
    config = read_json(folder / CONFIG)
    write_json(folder / CONFIG, {**config, SECTION: section, GUARD_KEY: GUARD})
    where: dict[str, str] = {}
    size = 0
    for file in [*dict.fromkeys(entry.file for entry in layers.values()), CARRIED]:
        stored = _tensor_bytes(folder / file)
        where |= dict.fromkeys(stored, file)
        size += sum(stored.values())
    write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": where})


def _tensor_bytes(path: Path) -> dict[str, int]:
    """Bytes of the tensors of a safetensors file, by its header: a length, then JSON."""
    with path.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return {
        name: entry["data_offsets"][1] - entry["data_offsets"][0]
        for name, entry in header.items()
        if name != "__metadata__"
    }
