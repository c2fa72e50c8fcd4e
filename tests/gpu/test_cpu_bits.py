"""The bits of a layer as the CPU's kernels read them, and back."""

import numpy as np
import pytest
import torch
from hypothesis import given

from algo.errors import LiftError
from algo.matrix import PackedMatrix
from gpu.cpu.bits import SLACK, bit_layout, laid_out, stored_words, wrapping_groups
from tests.conftest import CODES
from tests.gpu.cases import MATRICES, packed_matrix


@given(MATRICES)
def test_stored_words_is_the_inverse_of_laid_out(matrix):
    bits = laid_out(matrix)
    words = stored_words(bits, matrix.code, matrix.axis, matrix.shape)
    assert np.array_equal(words, matrix.words)


@pytest.mark.parametrize("axis", ["in", "out"])
def test_a_word_holds_the_bits_that_the_layout_says(axis):
    rng = np.random.default_rng(3)
    matrix = packed_matrix(rng, CODES["LQ-12/5+9"], axis, 70, 100)
    code, groups = matrix.code, matrix.groups
    layout = bit_layout(code, axis, matrix.shape)
    words = laid_out(matrix).numpy().view(np.uint64)[:-SLACK]
    words = words.reshape(layout.words, layout.classes, layout.lanes)
    plain = np.unpackbits(matrix.words.view(np.uint8), axis=1, bitorder="little")
    for n, c, lane in [(0, 0, 0), (1, layout.classes - 1, layout.lanes - 1), (0, 0, 21)]:
        for place in (0, 5, 63):
            if axis == "out":
                stream, bit = 64 * n + place, (lane * code.lifted + c) % (groups * code.lifted)
            else:
                stream, bit = lane, 64 * n + place
            inside = stream < matrix.streams and bit < groups * code.lifted
            wanted = plain[stream, bit] if inside else 0
            assert int(words[n, c, lane]) >> place & 1 == wanted


@pytest.mark.parametrize("shape", [(576, 576), (1536, 576), (576, 1536)])
def test_bits_take_hardly_more_memory_than_the_stored_words(shape):
    code = CODES["LQ-12/5+9"]
    words = np.zeros((shape[1], -(-shape[0] // 5) * 12 // 32 + 1), np.uint32)
    words = words[:, : -(-(-(-shape[0] // 5) * 12) // 32)]
    matrix = PackedMatrix(code, "out", shape, words, torch.ones(shape[0], dtype=torch.bfloat16))
    assert laid_out(matrix).numel() * 8 <= 1.03 * words.nbytes


def test_a_window_reaches_so_many_groups_further():
    assert wrapping_groups(CODES["LQ-12/5+9"]) == 1
    assert wrapping_groups(CODES["LQ-24/10"]) == 0
    assert wrapping_groups(CODES["LQ-2/1+10"]) == 5


def test_bits_of_another_layer_are_refused():
    rng = np.random.default_rng(4)
    matrix = packed_matrix(rng, CODES["LQ-12/5+9"], "out", 70)
    bits = laid_out(matrix)
    for wrong in (bits[:-1], bits.int(), bits.repeat(2)[::2]):
        with pytest.raises(LiftError, match="has contiguous int64 of shape"):
            stored_words(wrong, matrix.code, "out", matrix.shape)


def test_padding_bits_that_are_set_are_refused():
    rng = np.random.default_rng(5)
    matrix = packed_matrix(rng, CODES["LQ-12/5+9"], "out", 70, 3)
    matrix.words[2, -1] |= np.uint32(1 << 31)
    with pytest.raises(LiftError, match="stream 2 has padding bits set"):
        laid_out(matrix)
