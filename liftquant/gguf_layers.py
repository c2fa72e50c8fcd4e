"""The block linears of a Llama-like model as a GGUF file, and back.

The file holds what llama.cpp's quantiser asks for and nothing else: the sizes of the model and the
layers' weights in float32. (A file to run has the rows of q and k in another order; quantising
goes row by row, so their order changes nothing.)
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from algo.errors import LiftError
from algo.files import written_aside
from algo.source import load_config, open_source

SUPER_BLOCK = 256  # weights in a block of K- and i-quants; rows must be whole blocks


def gguf_names(linears: Sequence[str], blocks: int) -> dict[str, str]:
    """llama.cpp's name of every layer's weight.

    Raises:
        LiftError: a layer is none of a Llama's.
    """
    import gguf

    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, blocks)
    names = {}
    for name in linears:
        found = known.get_name(f"{name}.weight", try_suffixes=(".weight",))
        if found is None:
            raise LiftError(f"layer {name} has no name in a Llama GGUF: the gguf peer reads Llamas")
        names[name] = found
    return names


def write_layers(path: Path, model: Path, linears: Sequence[str], pad: bool) -> None:
    """Write the layers of a Hugging Face directory as float32 GGUF.

    Args:
        path: the file.
        model: the directory.
        linears: the layers.
        pad: fill rows up with zeros to whole super-blocks.
    """
    import gguf

    config = load_config(model)
    names = gguf_names(linears, config.num_hidden_layers)
    with written_aside(path) as aside:
        writer = gguf.GGUFWriter(aside, "llama")
        writer.add_block_count(config.num_hidden_layers)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_vocab_size(config.vocab_size)
        for name, weight in open_source(str(model)).linear_weights():
            rows = weight.float()
            if pad:
                rows = torch.nn.functional.pad(rows, (0, -rows.shape[1] % SUPER_BLOCK))
            writer.add_tensor(names[name], rows.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


@dataclass(frozen=True)
class GgufLayers:
    """Layers read back.

    Attributes:
        weights: float32 ``(outputs, inputs)`` by layer.
        stored_bytes: what their blocks take; padding counts for nothing.
        types: how many layers have which type, such as ``{"IQ4_NL": 180}``.
    """

    weights: dict[str, torch.Tensor] = field(repr=False)
    stored_bytes: int
    types: dict[str, int]


def read_layers(path: Path, names: Mapping[str, str], columns: Mapping[str, int]) -> GgufLayers:
    """Decode the layers of a quantised GGUF file.

    Args:
        path: the file.
        names: llama.cpp's name of each layer.
        columns: inputs of each layer; what a row has beyond them is padding.
    """
    import gguf

    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    weights, bits, types = {}, 0.0, Counter[str]()
    for name, gguf_name in names.items():
        tensor = stored[gguf_name]
        rows = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        types[tensor.tensor_type.name] += 1
        bits += 8 * tensor.n_bytes * columns[name] / rows.shape[1]
        weights[name] = torch.tensor(rows[:, : columns[name]])
    return GgufLayers(weights, round(bits / 8), dict(types.most_common()))
