import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.code import LiftCode
from algo.decode import decode_bits, decode_words
from algo.errors import LiftError
from algo.packing import pack_bits
from tests.conftest import CODES, random_bits, random_code


def by_the_formula(bits: np.ndarray, code: LiftCode) -> np.ndarray:
    """The contract, word for word, one integer at a time."""
    n = bits.shape[1]
    out = np.zeros((len(bits), n // code.lifted * code.group), np.int64)
    for s, stream in enumerate(bits.tolist()):
        signs = [2 * b - 1 for b in stream]
        for g in range(n // code.lifted):
            for i in range(code.group):
                acc = sum(
                    int(code.taps[i, j]) * signs[(g * code.lifted + j) % n]
                    for j in range(code.lifted + code.overlap)
                )
                for m, mask in enumerate(code.parities):
                    first = g * code.lifted + sum(code.shifts[:i])
                    members = [j for j in range(code.window) if mask >> j & 1]
                    sign = math.prod(signs[(first + j) % n] for j in members)
                    acc += int(code.taps[i, code.lifted + code.overlap + m]) * sign
                out[s, g * code.group + i] = acc
    return out


@given(name=st.sampled_from(sorted(CODES)), extra=st.integers(0, 4), seed=st.integers(0, 2**31))
def test_decoder_is_the_formula(name: str, extra: int, seed: int) -> None:
    code = CODES[name]
    groups = -(-(code.lifted + code.overlap) // code.lifted) + extra
    bits = random_bits(3, groups * code.lifted, seed)
    assert np.array_equal(decode_bits(bits, code), by_the_formula(bits, code))


def test_last_groups_wrap_round_to_the_first_bits() -> None:
    code = CODES["LQ-2/1+3"]
    bits = np.zeros((1, 12), np.uint8)
    before = decode_bits(bits, code)
    bits[0, 0] = 1
    changed = np.flatnonzero(decode_bits(bits, code)[0] != before[0])
    # bit 0 is in the windows that begin at bits 0, 8 + 2k... up to four bits earlier, round the end
    assert changed.tolist() == [0, 4, 5]


def test_all_ones_and_all_zeros_are_plus_and_minus_the_row_sums() -> None:
    for name in ("LQ-16/8", "LQ-12/5+9"):
        code = CODES[name]
        groups = 4
        sums = np.tile(code.taps.astype(int).sum(1), groups)
        n = groups * code.lifted
        assert np.array_equal(decode_bits(np.ones((1, n), np.uint8), code)[0], sums)
        assert np.array_equal(decode_bits(np.zeros((1, n), np.uint8), code)[0], -sums)


def test_largest_accumulator_is_exact_in_int16_and_float16() -> None:
    taps = np.full((1, 17), 127, np.int8)
    taps[0, 16] = 2047 - 16 * 127
    code = LiftCode(17, 1, 0, (17,), taps, 6)
    acc = decode_bits(np.ones((1, 17), np.uint8), code)
    assert acc.dtype == np.int16
    assert acc[0, 0] == 2047
    every = np.arange(-2047, 2048)
    assert np.array_equal(every.astype(np.float16).astype(int), every)


def test_accumulators_have_the_parity_of_the_row_sum() -> None:
    code = random_code(24, 10, seed=5)
    accs = decode_bits(random_bits(20, 72, 1), code)
    assert np.array_equal(
        accs % 2, np.tile(code.taps.astype(int).sum(1) % 2, 3)[None].repeat(20, 0)
    )


def test_words_decode_as_their_bits(code: LiftCode) -> None:
    groups = -(-(code.lifted + code.overlap) // code.lifted) + 1
    bits = random_bits(5, groups * code.lifted, 2)
    assert np.array_equal(decode_words(pack_bits(bits), groups, code), decode_bits(bits, code))


def test_words_for_another_number_of_groups_are_refused() -> None:
    code = CODES["LQ-24/10"]
    with pytest.raises(LiftError, match=r"144 bits per stream need uint32 of shape \(streams, 5\)"):
        decode_words(np.zeros((2, 4), np.uint32), 6, code)
