"""The decode kernel, under the interpreter, and the torch path against algo's decoder."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.code import LiftCode, block_shifts
from algo.decode import decode_words
from algo.errors import LiftError
from algo.packing import extend_words, pack_bits
from gpu.interpret import interpreted_decode
from gpu.ops import decode
from gpu.tables import check_decode, code_tables
from tests.cases import least_groups
from tests.gpu.cases import GEOMETRIES, random_code, streams

SEED = 20


def on_torch(words, code, groups, dtype=torch.int16):
    return decode(torch.from_numpy(words), code_tables(code), groups, dtype).numpy()


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_kernel_and_torch_equal_the_oracle(geometry):
    print("seed", SEED, geometry)
    rng = np.random.default_rng([SEED, *geometry])
    code = random_code(rng, *geometry)
    assert np.abs(code.taps.astype(int)).sum(axis=1).max() <= 2047
    for count, extra in ((1, 0), (3, 5), (17, 30)):
        groups = least_groups(code) + extra
        for name, words, extended in streams(rng, code, count, groups):
            want = decode_words(words, groups, code)
            kernel = interpreted_decode(extended, code, groups)
            assert kernel.dtype == np.int16
            assert np.array_equal(kernel, want), (name, count, groups)
            assert np.array_equal(on_torch(extended, code, groups), want), (name, count, groups)


def test_every_codeword_of_a_block_code():
    code = random_code(np.random.default_rng(SEED), 16, 8, 0, 0)
    words = np.arange(1 << 16, dtype=np.uint32)[:, None]
    want = decode_words(words, 1, code)
    extended = extend_words(words, 1, code)
    assert np.array_equal(interpreted_decode(extended, code, 1), want)
    assert np.array_equal(on_torch(extended, code, 1), want)


def test_every_window_of_a_sliding_code_with_parities():
    code = random_code(np.random.default_rng(SEED), 2, 1, 10, 10)
    # six groups of two bits make the stream one window, turned round by each group
    words = np.arange(1 << 12, dtype=np.uint32)[:, None]
    want = decode_words(words, 6, code)
    assert np.array_equal(interpreted_decode(extend_words(words, 6, code), code, 6), want)


@pytest.mark.parametrize("groups", [1, 3, 17, 576])
@pytest.mark.parametrize("count", [1, 3, 17])
def test_odd_shapes(count, groups):
    rng = np.random.default_rng([SEED, count, groups])
    code = random_code(rng, 24, 10, 0, 0)
    for _, words, extended in streams(rng, code, count, groups):
        want = decode_words(words, groups, code)
        # blocks smaller than the work, so that programs end inside and between streams
        assert np.array_equal(interpreted_decode(extended, code, groups, block=1024), want)
        assert np.array_equal(on_torch(extended, code, groups), want)


def test_limit_rows_are_exact_in_int16_and_float16():
    taps = np.full((2, 17), 127, np.int8)
    taps[:, 16] = 15  # 16 * 127 + 15 = 2047
    taps[1] *= -1
    code = LiftCode(17, 2, 0, block_shifts(17, 2), taps, 0)
    words = pack_bits(np.vstack([np.ones((1, 34), np.uint8), np.zeros((1, 34), np.uint8)]))
    extended = extend_words(words, 2, code)
    want = [[2047, -2047] * 2, [-2047, 2047] * 2]
    assert interpreted_decode(extended, code, 2, checked=True).tolist() == want
    half = interpreted_decode(extended, code, 2, half=True)
    assert half.dtype == np.float16
    assert half.tolist() == want
    assert on_torch(extended, code, 2, torch.float16).tolist() == want


@pytest.mark.parametrize("geometry", [(32, 3, 0, 5), (12, 5, 9, 4)], ids=str)
def test_no_arithmetic_of_the_kernel_overflows(geometry):
    rng = np.random.default_rng([SEED, *geometry])
    code = random_code(rng, *geometry)
    for _, words, extended in streams(rng, code, 3, 11):
        want = decode_words(words, 11, code)
        assert np.array_equal(interpreted_decode(extended, code, 11, checked=True), want)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_any_geometry(data):
    seed = data.draw(st.integers(0, 2**32 - 1))
    sliding = data.draw(st.booleans())
    group = data.draw(st.integers(1, 9))
    if sliding:
        lifted = data.draw(st.integers(group, 4 * group))
        overlap = data.draw(st.integers(1, 16 - -(-lifted // group)))
    else:
        lifted, overlap = data.draw(st.integers(2, 32)), 0
    rng = np.random.default_rng(seed)
    window = overlap + (-(-lifted // group) if sliding else lifted)
    code = random_code(rng, lifted, group, overlap, data.draw(st.integers(0, min(3, window - 2))))
    groups = least_groups(code) + data.draw(st.integers(0, 40))
    for _, words, extended in streams(rng, code, data.draw(st.integers(1, 4)), groups):
        want = decode_words(words, groups, code)
        assert np.array_equal(interpreted_decode(extended, code, groups), want)
        assert np.array_equal(on_torch(extended, code, groups), want)


def test_one_flipped_bit_changes_exactly_the_weights_that_see_it():
    rng = np.random.default_rng(SEED)
    code = random_code(rng, 12, 5, 9, 0)
    _, words, extended = next(streams(rng, code, 2, 8))
    flipped = words.copy()
    flipped[1, 1] ^= 1 << 8  # bit 40 of stream 1
    before = interpreted_decode(extended, code, 8)
    after = interpreted_decode(extend_words(flipped, 8, code), code, 8)
    seen = {
        5 * g + i
        for g in range(8)
        for i, s in enumerate(code.starts)
        if s <= 40 - 12 * g < s + code.window
    }
    assert seen
    assert {int(n) for n in (before != after)[1].nonzero()[0]} == seen
    assert np.array_equal(before[0], after[0])


def test_one_changed_tap_or_parity_is_noticed():
    rng = np.random.default_rng(SEED)
    code = random_code(rng, 12, 5, 9, 2)
    _, words, extended = next(streams(rng, code, 2, 8))
    taps = code.taps.copy()
    taps[3, code.starts[3]] //= 2
    other = LiftCode(12, 5, 9, code.shifts, taps, 6, code.parities)
    wrong = interpreted_decode(extended, other, 8) != decode_words(words, 8, code)
    assert wrong.reshape(2, 8, 5)[:, :, 3].all()
    assert wrong.sum() == 2 * 8
    swapped = LiftCode(12, 5, 9, code.shifts, code.taps, 6, code.parities[::-1])
    assert (interpreted_decode(extended, swapped, 8) != decode_words(words, 8, code)).any()


def test_stored_words_are_refused_where_extended_ones_are_wanted():
    code = random_code(np.random.default_rng(SEED), 16, 8, 0, 0)
    words = pack_bits(np.zeros((2, 64), np.uint8))
    with pytest.raises(LiftError, match=r"shape \(2, 2\); need 3 words per stream"):
        interpreted_decode(words, code, 4)
    with pytest.raises(LiftError, match=r"shape \(2, 2\); need 3 words per stream"):
        on_torch(words, code, 4)


def test_wrong_arguments_are_named():
    code = random_code(np.random.default_rng(SEED), 16, 8, 0, 0)
    tables = code_tables(code)
    words = torch.zeros((2, 3), dtype=torch.int32)
    with pytest.raises(LiftError, match=r"packed words are torch\.int64; need int32 or uint32"):
        decode(words.long(), tables, 4)
    with pytest.raises(
        LiftError, match=r"int16, float16, int8, bfloat16 without scales, not torch\.float32"
    ):
        decode(words, tables, 4, torch.float32)
    with pytest.raises(LiftError, match=r"taps are torch\.int16"):
        decode(words, tables._replace(taps=tables.taps.short()), 4)
    with pytest.raises(LiftError, match=r"starts are torch\.int32 of shape \(7,\)"):
        decode(words, tables._replace(starts=tables.starts[1:]), 4)
    with pytest.raises(LiftError, match=r"parities are torch\.float32"):
        decode(words, tables._replace(parities=tables.parities.float()), 4)
    with pytest.raises(LiftError, match="leave a window of -4 bits"):
        decode(words, tables._replace(parities=torch.zeros(20, dtype=torch.int32)), 4)
    with pytest.raises(LiftError, match="groups=0"):
        decode(words, tables, 0)
    with pytest.raises(LiftError, match="cpu and meta; move them to one device"):
        decode(words, tables._replace(starts=tables.starts.to("meta")), 4)


def test_too_many_weights_for_32_bit_indices():
    tables = code_tables(random_code(np.random.default_rng(SEED), 16, 8, 0, 0), "meta")
    words = torch.empty((1 << 17, 1025), dtype=torch.int32, device="meta")
    with pytest.raises(LiftError, match="decode fewer streams at a time"):
        check_decode(words, tables, 2048, torch.int16)
