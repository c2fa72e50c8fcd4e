"""The tensors of a `LiftLinear`: laid out for a device's kernels, and back as they are stored.

For the CPU's kernels every matrix lies by itself (`gpu.cpu.layer`). For a GPU's they are one
one-bit matrix where all codes are linear, and streams where one has parities. Both ways back are
exact.
"""

from collections.abc import Sequence

import numpy as np
import torch

from algo.errors import LiftError
from algo.lifted import Bounds
from algo.matrix import PackedMatrix, word_shape
from algo.packing import Words, stream_groups, stream_words, transpose_words
from algo.whitening import Whitening
from gpu.cpu.bits import bit_layout, stored_words
from gpu.cpu.layer import CpuLayer, cpu_layer
from gpu.linear_spec import Form, LinearSpec
from gpu.stack import ABSENT, ROW_WORDS, Stack, stack_bounds, stack_layers
from gpu.tables import code_tables
from gpu.tensor_tree import Parts, leaf, taken_apart
from gpu.weights import PackedWeights, check_decoded_inner, packed_weights
from gpu.whitening_tensors import PAD, WhiteningTensors, whitening_tensors

Biases = Sequence[torch.Tensor | None]


def form_of(device_type: str) -> Form | None:
    """The form that a type of device wants; None where no layer runs, which takes either."""
    if device_type == "cpu":
        return "cpu"
    return "kernels" if device_type == "cuda" else None  # HIP devices call themselves cuda, too


def integer_bounds(spec: LinearSpec) -> Bounds:
    """The largest integers of a layer without parities; raises as `algo.lifted.bounds` does."""
    layers = [(spec.shape(i), code) for i, code in enumerate(spec.codes)]
    return stack_bounds(spec.axis, layers, spec.digits)


def check_integers(spec: LinearSpec) -> None:
    """Raise LiftError where integers of a layer could overflow, whatever its form."""
    if spec.linear:
        integer_bounds(spec)
    else:
        check_decoded_inner(spec.inputs)


def laid_out(
    spec: LinearSpec, matrices: Sequence[PackedMatrix], whitening: Whitening, biases: Biases
) -> Parts:
    """The tensors of a layer in its spec's form, on the CPU.

    Args:
        spec: of the matrices.
        matrices: in the order of their outputs.
        whitening: of their input.
        biases: of the outputs of each matrix, or None.

    Raises:
        LiftError: a bias does not fit, or something is too large for 32-bit indices.
    """
    parts: Parts = {"whitening": whitening_tensors(whitening)}
    full = [_padded(spec, i, bias) for i, bias in enumerate(biases)]
    if spec.form == "cpu":
        for i, (matrix, bias) in enumerate(zip(matrices, full, strict=True)):
            parts[f"layer{i}"] = cpu_layer(matrix, bias)
        return parts
    if not spec.linear:
        for i, (matrix, bias) in enumerate(zip(matrices, full, strict=True)):
            parts[f"layer{i}"] = packed_weights(matrix, bias)
        return parts
    parts["stack"] = stack_layers(matrices, spec.digits, full)
    return parts | _tables(spec)


def template(spec: LinearSpec) -> Parts:
    """What `laid_out` makes with a `gpu.tensor_tree.Leaf` for every tensor, from the spec alone."""
    a, b = spec.factors
    pre = leaf(torch.float32, spec.inputs) if spec.scaled else None
    wide = b + -b % PAD
    whitening = WhiteningTensors(leaf(torch.float32, a, a), leaf(torch.float32, b, wide), pre)
    parts: Parts = {"whitening": whitening}
    if spec.form == "cpu":
        for i in range(len(spec.codes)):
            parts[f"layer{i}"] = _cpu_template(spec, i)
    elif not spec.linear:
        for i in range(len(spec.codes)):
            parts[f"layer{i}"] = _streams_template(spec, i)
    else:
        parts["stack"] = _stack_template(spec)
        parts |= taken_apart(_tables(spec))[0]
    return parts


def stored_matrices(spec: LinearSpec, parts: Parts) -> list[PackedMatrix]:
    """The inverse of `laid_out`, on the CPU: the matrices, bit for bit."""
    words = _words_of_cpu if spec.form == "cpu" else _words_of_kernels
    scales = _rows(spec, parts, "scales")
    return [
        PackedMatrix(
            code,
            spec.axis,
            spec.shape(i),
            words(spec, parts, i),
            # exact, as was the way there: powers of two
            (scales[i] * 2.0**code.exponent).to(torch.bfloat16),
        )
        for i, code in enumerate(spec.codes)
    ]


def stored_biases(spec: LinearSpec, parts: Parts) -> list[torch.Tensor]:
    """float32 biases of the outputs of each matrix, on the CPU; `ABSENT` where there was none."""
    full = _rows(spec, parts, "bias")
    return [bias[slice(*kept)].clone() for bias, kept in zip(full, spec.kept, strict=True)]


def stored_whitening(parts: Parts, turns: tuple[torch.Tensor, torch.Tensor] | None) -> Whitening:
    """The whitening that was laid out, on the CPU."""
    left, right, pre = parts["whitening"]
    return Whitening(
        left.cpu().T.contiguous(),
        right.cpu()[:, : len(right)].clone(),
        None if pre is None else pre.cpu().to(torch.bfloat16),
        turns,
    )


def _rows(spec: LinearSpec, parts: Parts, name: str) -> list[torch.Tensor]:
    """A field of all rows, in a piece for each matrix."""
    if "stack" in parts:
        return list(getattr(parts["stack"], name).cpu().split(spec.heights))
    return [getattr(parts[f"layer{i}"], name).cpu() for i in range(len(spec.codes))]


def _padded(spec: LinearSpec, i: int, bias: torch.Tensor | None) -> torch.Tensor:
    """float32 ``(rows,)``: the outputs' bias among all rows of matrix `i`."""
    start, stop = spec.kept[i]
    out = torch.full((spec.heights[i],), ABSENT, dtype=torch.float32)
    if bias is None:
        return out
    if bias.shape != (stop - start,) or not bias.is_floating_point():
        raise LiftError(
            f"bias is {bias.dtype} of shape {tuple(bias.shape)}; a layer of {stop - start} outputs "
            f"needs floating point of shape ({stop - start},)"
        )
    out[start:stop] = bias.detach().float().cpu()
    return out


def _tables(spec: LinearSpec) -> Parts:
    """What the kernels have to know of linear codes."""
    parts: Parts = {}
    if spec.axis == "in":
        from gpu.lift import lift_tables

        parts["lift"] = lift_tables(spec.codes[0], spec.inputs)
    for i, code in enumerate(spec.codes):
        parts[f"code{i}"] = code_tables(code)
    return parts


def _cpu_template(spec: LinearSpec, i: int) -> CpuLayer:
    bits = leaf(torch.int64, bit_layout(spec.codes[i], spec.axis, spec.shape(i)).size)
    row = leaf(torch.float32, spec.heights[i])
    return CpuLayer(bits, row, row, spec.codes[i], spec.axis, spec.shape(i))


def _streams_template(spec: LinearSpec, i: int) -> PackedWeights:
    code, row = spec.codes[i], leaf(torch.float32, spec.heights[i])
    streams, _ = word_shape(spec.shape(i), code, spec.axis)
    words = leaf(torch.int32, streams, -(-(_bits(spec, i) + code.overlap) // 32) + 1)
    tables = taken_apart({"tables": code_tables(code)})[0]["tables"]
    return PackedWeights(words, tables, *spec.shape(i), spec.axis, row, row)


def _stack_template(spec: LinearSpec) -> Stack:
    each = [_bits(spec, i) for i in range(len(spec.codes))]
    out = spec.axis == "out"
    inner = spec.inputs if out else each[0]
    height = sum(each if out else spec.heights)
    wide = -(-inner // 32)
    taps = sum(c.group * c.window if out else 1 for c in spec.codes)
    starts = sum(c.group if out else 1 for c in spec.codes)
    row = leaf(torch.float32, sum(spec.heights))
    return Stack(
        leaf(torch.int32, height, wide + -wide % ROW_WORDS),
        leaf(torch.int32, len(spec.codes), 9),
        leaf(torch.int8, taps),
        leaf(torch.int32, starts),
        row,
        row,
        spec.axis,
        integer_bounds(spec),
    )


def _bits(spec: LinearSpec, i: int) -> int:
    """Bits of a stream of matrix `i`."""
    code = spec.codes[i]
    weights = spec.inputs if spec.axis == "in" else spec.heights[i]
    return stream_groups(weights, code) * code.lifted


def _words_of_cpu(spec: LinearSpec, parts: Parts, i: int) -> Words:
    return stored_words(parts[f"layer{i}"].bits, spec.codes[i], spec.axis, spec.shape(i))


def _words_of_kernels(spec: LinearSpec, parts: Parts, i: int) -> Words:
    bits = _bits(spec, i)
    if spec.linear:
        before = sum(_bits(spec, j) if spec.axis == "out" else spec.heights[j] for j in range(i))
        height = bits if spec.axis == "out" else spec.heights[i]
        rows = _uint32(parts["stack"].words[before : before + height])
        if spec.axis == "out":
            return transpose_words(rows[:, : -(-spec.inputs // 32)], spec.inputs)
        return np.ascontiguousarray(rows[:, : -(-bits // 32)])
    count = stream_words(bits // spec.codes[i].lifted, spec.codes[i])
    words = _uint32(parts[f"layer{i}"].words[:, :count])
    if bits % 32:  # the first bits follow again after the last
        words[:, -1] &= np.uint32((1 << bits % 32) - 1)
    return words


def _uint32(words: torch.Tensor) -> Words:
    """A copy on the CPU."""
    return words.cpu().numpy().copy().view(np.uint32)
