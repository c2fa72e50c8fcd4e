"""Bytes of a checkpoint from the shapes of its layers, without a weight being read.

Everything is counted as `algo.checkpoint` stores it: whole uint32 words per stream, bfloat16 row
scales, one whitening per number of inputs, everything else as it was, and the headers of the
safetensors files. What this predicts is the size of the files, to the byte.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from algo.code import LiftCode
from algo.errors import LiftError
from algo.manifest import CARRIED, WHITENING
from algo.matrix import SCALE_BITS, Axis, layer_word_shape, word_shape
from algo.packing import WORD
from algo.quantise import block_files, whitening_key
from algo.whitening import factor_sizes

# safetensors sorts tensors by dtype, the last of these first, and then by name
_DTYPES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16",
    torch.uint16: "U16", torch.float16: "F16", torch.bfloat16: "BF16", torch.int32: "I32",
    torch.uint32: "U32", torch.float32: "F32", torch.float64: "F64", torch.int64: "I64",
    torch.uint64: "U64",
}  # fmt: skip
_ORDER = {dtype: place for place, dtype in enumerate(_DTYPES)}
# layers of one module that read the same activations
_SHARED_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


@dataclass(frozen=True)
class TensorShape:
    """A tensor that is not there: shape and dtype."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


Tensors = dict[str, TensorShape]


@dataclass(frozen=True)
class Layout:
    """What a checkpoint stores beside words and scales.

    Attributes:
        axis: direction of the streams.
        input_scales: whether every input group has a bfloat16 vector, one entry per input, as
            calibration gives it.
    """

    axis: Axis = "out"
    input_scales: bool = True


@dataclass(frozen=True)
class Footprint:
    """Bytes by kind; `total` is the size of the safetensors files, each in `files`."""

    words: int
    scales: int
    whitening: int
    carried: int
    headers: int
    files: Mapping[str, int]

    @property
    def total(self) -> int:
        return self.words + self.scales + self.whitening + self.carried + self.headers


def word_bytes(shape: tuple[int, int], code: LiftCode, axis: Axis) -> int:
    """Bytes of a layer's packed words, the streams' padding included."""
    return math.prod(word_shape(shape, code, axis)) * WORD // 8


def scale_bytes(shape: tuple[int, int]) -> int:
    """Bytes of a layer's row scales."""
    return shape[0] * SCALE_BITS // 8


def layer_tensors(name: str, shape: tuple[int, int], code: LiftCode, axis: Axis) -> Tensors:
    """What one layer is stored as."""
    return {
        f"{name}.weight": TensorShape(layer_word_shape(name, shape, code, axis), torch.uint32),
        f"{name}.scales": TensorShape(shape[:1], torch.bfloat16),
    }


def input_groups(linears: Mapping[str, tuple[int, int]]) -> dict[str, list[str]]:
    """Layers that share their input, by the first of them: q, k and v; gate and up; others alone.

    Told by the names that transformers gives them; where those are others, each layer is alone.
    """
    groups: dict[str, list[str]] = {}
    first: dict[tuple[str, tuple[str, ...]], str] = {}
    for name in linears:
        parent, _, leaf = name.rpartition(".")
        family = next((f for f in _SHARED_INPUT if leaf in f), (leaf,))
        leader = first.setdefault((parent, family), name)
        groups.setdefault(leader, []).append(name)
    return groups


def transform_tensors(linears: Mapping[str, tuple[int, int]]) -> Tensors:
    """What ``whitening.safetensors`` holds."""
    tensors: Tensors = {}
    for inputs in sorted({columns for _, columns in linears.values()}):
        left, right = factor_sizes(inputs)
        key = whitening_key(inputs)
        tensors[f"{key}.left"] = TensorShape((left, left), torch.float32)
        tensors[f"{key}.right"] = TensorShape((right, right), torch.float32)
    return tensors


def input_scale_tensors(linears: Mapping[str, tuple[int, int]]) -> Tensors:
    """Input scales of layers, one vector for those that share an input; kept with their block."""
    return {
        f"{leader}.pre": TensorShape((linears[leader][1],), torch.bfloat16)
        for leader in input_groups(linears)
    }


def transform_bytes(linears: Mapping[str, tuple[int, int]], layout: Layout) -> int:
    """Bytes of rotations and input scales."""
    scales = data_bytes(input_scale_tensors(linears)) if layout.input_scales else 0
    return data_bytes(transform_tensors(linears)) + scales


def header_bytes(tensors: Mapping[str, TensorShape]) -> int:
    """Bytes of a safetensors file before its data: a length, and JSON padded to 8 bytes.

    Raises:
        LiftError: a dtype is not one that checkpoints hold.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise LiftError(f"tensor {name} is {tensor.dtype}, which no checkpoint holds")
    header, offset = {}, 0
    for name in sorted(tensors, key=lambda n: (-_ORDER[tensors[n].dtype], n)):
        tensor = tensors[name]
        ends = [offset, offset + tensor.nbytes]
        entry = {"dtype": _DTYPES[tensor.dtype], "shape": tensor.shape, "data_offsets": ends}
        header[name] = entry
        offset = ends[1]
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
    return 8 + -(-len(text.encode()) // 8) * 8


def data_bytes(tensors: Mapping[str, TensorShape]) -> int:
    """Bytes of the tensors themselves."""
    return sum(tensor.nbytes for tensor in tensors.values())


def checkpoint_footprint(
    linears: Mapping[str, tuple[int, int]],
    carried: Mapping[str, TensorShape],
    codes: Mapping[str, LiftCode],
    layout: Layout | None = None,
) -> Footprint:
    """Bytes of the checkpoint that quantising a model gives.

    Args:
        linears: ``(rows, columns)`` of every layer to quantise, in the model's order.
        carried: every other stored tensor.
        codes: the code of every layer, by its name; any mixture.
        layout: axis and options; the defaults of `Layout` where it is None.

    Raises:
        LiftError: a layer is too narrow for its code.
    """
    layout = layout or Layout()
    files: dict[str, Tensors] = {}
    for file, block in block_files(list(linears)).items():
        files[file] = {}
        for name in block:
            files[file] |= layer_tensors(name, linears[name], codes[name], layout.axis)
        if layout.input_scales:
            files[file] |= input_scale_tensors({name: linears[name] for name in block})
    files[WHITENING] = transform_tensors(linears)
    files[CARRIED] = dict(carried)
    headers = {file: header_bytes(tensors) for file, tensors in files.items()}
    return Footprint(
        words=sum(word_bytes(s, codes[n], layout.axis) for n, s in linears.items()),
        scales=sum(scale_bytes(shape) for shape in linears.values()),
        whitening=transform_bytes(linears, layout),
        carried=data_bytes(carried),
        headers=sum(headers.values()),
        files={file: headers[file] + data_bytes(tensors) for file, tensors in files.items()},
    )
