"""The one-bit product on the CPU, against the plain one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpu import reference
from gpu.cpu.bitmm import bitmm

SIZES = [1, 3, 17, 31, 32, 33, 64, 65, 100, 576]


@given(
    st.sampled_from(SIZES),
    st.sampled_from(SIZES),
    st.sampled_from([1, 3, 17]),
    st.sampled_from([None, -128, -127, 127, 0]),
    st.sampled_from([None, 0, 0xFFFFFFFF]),
    st.integers(0, 2**32 - 1),
)
def test_it_equals_the_plain_product(rows, inner, columns, digit, word, seed):
    rng = np.random.default_rng(seed)
    shape = (rows, -(-inner // 32))
    words = rng.integers(0, 2**32, shape) if word is None else np.full(shape, word)
    digits = torch.from_numpy(rng.integers(-128, 128, (inner, columns)).astype(np.int8))
    if digit is not None:
        digits[:] = digit
    given_words = torch.from_numpy(words.astype(np.uint32)).view(torch.int32)
    out = bitmm(given_words, digits)
    assert out.dtype == torch.int32
    assert torch.equal(out, reference.bitmm(given_words, digits))


@pytest.mark.parametrize("inner", [4099, 1 << 17])
def test_long_sums_of_extreme_digits(inner):
    words = torch.full((5, -(-inner // 32)), -1, dtype=torch.int32)
    words[1] = 0
    digits = torch.full((inner, 2), -128, dtype=torch.int8)
    digits[:, 1] = 127
    out = bitmm(words, digits)
    assert out.tolist()[:2] == [[-128 * inner, 127 * inner], [128 * inner, -127 * inner]]


def test_it_is_on_the_cpu_whatever_device_is_the_default():
    words, digits = torch.tensor([[5]]).int(), torch.tensor([[1], [2], [3]], dtype=torch.int8)
    with torch.device("meta"):
        out = bitmm(words, digits)
    assert out.tolist() == [[2]]


def test_the_operator_takes_it(monkeypatch):
    """The plain one is not called on the CPU."""
    from gpu import ops

    def refuse(*_):
        raise AssertionError

    words, digits = torch.tensor([[5]]), torch.tensor([[1], [2], [3]], dtype=torch.int8)
    monkeypatch.setattr(reference, "bitmm", refuse)
    assert ops.bitmm(words.int(), digits).tolist() == [[2]]
