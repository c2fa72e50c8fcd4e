import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.code import LiftCode
from algo.decode import decode_words
from algo.errors import LiftError
from algo.packing import (
    extend_words,
    pack_bits,
    stream_groups,
    stream_words,
    transpose_words,
    unpack_bits,
)
from tests.conftest import CODES, random_bits

sizes = st.integers(1, 130)
seeds = st.integers(0, 2**32 - 1)


def test_bit_n_is_bit_n_mod_32_of_word_n_div_32() -> None:
    for n in (0, 1, 31, 32, 33, 69):
        bits = np.zeros((1, 70), np.uint8)
        bits[0, n] = 1
        expected = np.zeros((1, 3), np.uint32)
        expected[0, n // 32] = 1 << n % 32
        assert np.array_equal(pack_bits(bits), expected)


@given(streams=sizes, n=sizes, seed=seeds)
def test_packing_round_trips(streams: int, n: int, seed: int) -> None:
    bits = random_bits(streams, n, seed)
    words = pack_bits(bits)
    assert words.shape == (streams, -(-n // 32))
    assert np.array_equal(unpack_bits(words, n), bits)


@given(n=st.integers(1, 127).filter(lambda n: n % 32), seed=seeds)
def test_a_set_padding_bit_is_corruption(n: int, seed: int) -> None:
    words = pack_bits(random_bits(3, n, seed))
    words[2, -1] |= np.uint32(1 << 31)
    with pytest.raises(LiftError, match=f"stream 2 has padding bits set after bit {n}"):
        unpack_bits(words, n)


@pytest.mark.parametrize(
    "words", [np.zeros((2, 2), np.int32), np.zeros((2, 3), np.uint32), np.zeros(2, np.uint32)]
)
def test_words_of_another_shape_or_type_are_refused(words: np.ndarray) -> None:
    with pytest.raises(LiftError, match=r"need uint32 of shape \(streams, 2\)"):
        unpack_bits(words, 40)


@given(rows=sizes, n=sizes, seed=seeds)
def test_transposed_words_are_the_transposed_bits(rows: int, n: int, seed: int) -> None:
    bits = random_bits(rows, n, seed)
    turned = transpose_words(pack_bits(bits), n)
    assert np.array_equal(unpack_bits(turned, rows), bits.T)


def test_extended_words_continue_with_the_first_bits(code: LiftCode) -> None:
    groups = -(-(code.lifted + code.overlap) // code.lifted) + 2
    n = groups * code.lifted
    bits = random_bits(4, n, 3)
    extended = extend_words(pack_bits(bits), groups, code)
    assert extended.shape == (4, -(-(n + code.overlap) // 32) + 1)
    again = unpack_bits(extended[:, :-1], n + code.overlap)
    assert np.array_equal(again, np.concatenate([bits, bits[:, : code.overlap]], axis=1))
    assert not extended[:, -1].any()


def test_stream_shorter_than_a_window_is_refused() -> None:
    code = CODES["LQ-2/1+10"]
    words = np.zeros((1, 1), np.uint32)
    for work in (extend_words, decode_words):
        with pytest.raises(LiftError, match=r"5 groups are too few for LQ-2/1\+10; .* at least 6"):
            work(words, 5, code)


def test_groups_are_counted_up_and_words_whole() -> None:
    code = CODES["LQ-24/10"]
    assert [stream_groups(n, code) for n in (1, 10, 11, 576)] == [1, 1, 2, 58]
    assert [stream_words(g, code) for g in (1, 2, 4, 58)] == [1, 2, 3, 44]


def test_a_stream_must_hold_one_window() -> None:
    code = CODES["LQ-12/5+9"]
    assert stream_groups(6, code) == 2
    with pytest.raises(LiftError, match=r"5 weights is too narrow .* at least 6 weights"):
        stream_groups(5, code)
    with pytest.raises(LiftError, match="at least one weight, not 0"):
        stream_groups(0, code)
