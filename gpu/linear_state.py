"""The ``state_dict`` of a `LiftLinear`: what is stored of a layer, however it is laid out.

For each matrix ``weight`` (uint32, the packed words), ``scales`` (bfloat16), ``bias`` (float32)
where there is one, and ``code`` (uint8, the SHA-256 of the code's definition); for all matrices
but the first with ``_1``, ``_2`` and so on after the name. For their input ``left`` and ``right``
(float32), ``pre`` and ``turn_left``, ``turn_right`` (bfloat16) where there are some.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from algo.errors import LiftError
from algo.matrix import PackedMatrix, word_shape
from algo.whitening import Whitening, skew_entries
from gpu.linear_spec import LinearSpec

SIDES = ("left", "right")


class Stored(NamedTuple):
    """A layer as it was given; biases are float32."""

    matrices: list[PackedMatrix]
    whitening: Whitening
    biases: list[torch.Tensor | None]


def state_shapes(
    spec: LinearSpec, biased: Sequence[bool], turned: bool
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and dtype of every tensor of the state.

    Args:
        spec: of the layer.
        biased: which matrices have a bias.
        turned: whether the whitening has turns.
    """
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    for i, code in enumerate(spec.codes):
        shapes[_name("weight", i)] = word_shape(spec.shape(i), code, spec.axis), torch.uint32
        shapes[_name("scales", i)] = (spec.heights[i],), torch.bfloat16
        if biased[i]:
            shapes[_name("bias", i)] = (spec.outputs[i],), torch.float32
        shapes[_name("code", i)] = (32,), torch.uint8
    for side, size in zip(SIDES, spec.factors, strict=True):
        shapes[side] = (size, size), torch.float32
        if turned:
            shapes[f"turn_{side}"] = (skew_entries(size),), torch.bfloat16
    if spec.scaled:
        shapes["pre"] = (spec.inputs,), torch.bfloat16
    return shapes


def state_of(stored: Stored) -> dict[str, torch.Tensor]:
    """The tensors of the state, on the CPU."""
    state = {}
    for i, (matrix, bias) in enumerate(zip(stored.matrices, stored.biases, strict=True)):
        state[_name("weight", i)] = torch.from_numpy(matrix.words)
        state[_name("scales", i)] = matrix.scales
        if bias is not None:
            state[_name("bias", i)] = bias
        hashed = bytearray.fromhex(matrix.code.sha256)
        state[_name("code", i)] = torch.frombuffer(hashed, dtype=torch.uint8)
    whitening = stored.whitening
    state |= {"left": whitening.left, "right": whitening.right}
    if whitening.pre is not None:
        state["pre"] = whitening.pre
    if whitening.turns is not None:
        state["turn_left"], state["turn_right"] = whitening.turns
    return state


def from_state(
    spec: LinearSpec,
    biased: Sequence[bool],
    turned: bool,
    state: Mapping[str, torch.Tensor],
) -> Stored:
    """The inverse of `state_of`.

    Args:
        spec, biased, turned: of the layer that is to be loaded, as in `state_shapes`.
        state: all its tensors.

    Raises:
        LiftError: a tensor has another shape or dtype, or is of another code, or is corrupt.
    """
    tensors = {}
    for name, (shape, dtype) in state_shapes(spec, biased, turned).items():
        tensor = state[name].detach().cpu()
        widened = dtype == torch.float32 and tensor.dtype in (torch.float16, torch.bfloat16)
        if tuple(tensor.shape) != shape or not (tensor.dtype == dtype or widened):
            raise LiftError(
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}; this layer has {dtype} "
                f"of shape {shape}"
            )
        tensors[name] = tensor.to(dtype)
    matrices = [_matrix(spec, i, tensors) for i in range(len(spec.codes))]
    turns = (tensors["turn_left"], tensors["turn_right"]) if turned else None
    whitening = Whitening(tensors["left"], tensors["right"], tensors.get("pre"), turns)
    biases = [tensors.get(_name("bias", i)) for i in range(len(spec.codes))]
    return Stored(matrices, whitening, biases)


def blank(spec: LinearSpec, biased: Sequence[bool], turned: bool) -> Stored:
    """A layer of zeros in a basis that changes nothing, to be loaded into."""
    state = {
        name: torch.zeros(shape, dtype=dtype)
        for name, (shape, dtype) in state_shapes(spec, biased, turned).items()
    }
    for side in SIDES:
        state[side] = torch.eye(len(state[side]), dtype=torch.float32)
    if "pre" in state:
        state["pre"].fill_(1)
    for i, code in enumerate(spec.codes):
        hashed = bytearray.fromhex(code.sha256)
        state[_name("code", i)] = torch.frombuffer(hashed, dtype=torch.uint8)
    return from_state(spec, biased, turned, state)


def _matrix(spec: LinearSpec, i: int, tensors: Mapping[str, torch.Tensor]) -> PackedMatrix:
    code = spec.codes[i]
    found = bytes(tensors[_name("code", i)].tolist()).hex()
    if found != code.sha256:
        raise LiftError(
            f"{_name('weight', i)} is in a code of SHA-256 {found[:12]}..., this layer in {code!r}"
        )
    words = tensors[_name("weight", i)].numpy().copy()
    scales = tensors[_name("scales", i)].clone()
    return PackedMatrix(code, spec.axis, spec.shape(i), words, scales)


def _name(leaf: str, i: int) -> str:
    return leaf if i == 0 else f"{leaf}_{i}"
