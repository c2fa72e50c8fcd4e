"""The one-bit product, under the interpreter and in torch, against plain integer numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.errors import LiftError
from algo.packing import pack_bits
from gpu.bitmm import digit_planes
from gpu.interpret import interpreted_bitmm
from gpu.ops import bitmm
from gpu.tables import MAX_BYTES, MAX_INNER, check_bitmm
from gpu.tiles import NARROW, Tile

SEED = 21


def oracle(bits, digits):
    return (2 * bits.astype(np.int64) - 1) @ digits.astype(np.int64)


def random_bits(rng, rows, inner):
    return rng.integers(0, 2, (rows, inner), dtype=np.uint8)


def random_digits(rng, inner, columns):
    return rng.integers(-128, 128, (inner, columns)).astype(np.int8)


def on_torch(words, digits):
    return bitmm(torch.from_numpy(words), torch.from_numpy(digits)).numpy()


@pytest.mark.parametrize("inner", [1, 7, 8, 31, 33, 77, 256, 1000, 2049])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 2), (17, 1), (65, 16), (300, 67)])
def test_kernel_and_torch_equal_integers(rows, inner, columns):
    print("seed", SEED)
    rng = np.random.default_rng([SEED, rows, inner, columns])
    bits, digits = random_bits(rng, rows, inner), random_digits(rng, inner, columns)
    want = oracle(bits, digits)
    got = interpreted_bitmm(pack_bits(bits), digits)
    assert got.dtype == np.int32
    assert np.array_equal(got, want)
    assert np.array_equal(on_torch(pack_bits(bits), digits), want)


@pytest.mark.parametrize("digit", [-128, -127, 127, 0])
@pytest.mark.parametrize("bit", [0, 1])
def test_extremes(bit, digit):
    bits = np.full((5, 999), bit, np.uint8)
    digits = np.full((999, 3), digit, np.int8)
    want = np.full((5, 3), (2 * bit - 1) * digit * 999)
    assert np.array_equal(interpreted_bitmm(pack_bits(bits), digits, checked=True), want)
    assert np.array_equal(on_torch(pack_bits(bits), digits), want)


def test_each_bit_of_a_byte_alone():
    digits = np.array([[1], [3], [9], [27], [-81], [-127], [-128], [111]], np.int8)
    bits = np.eye(8, dtype=np.uint8)
    got = interpreted_bitmm(pack_bits(bits), digits)
    assert np.array_equal(got, 2 * digits.astype(int) - digits.astype(int).sum())


def test_no_overflow_at_the_bound():
    assert MAX_BYTES == 131071
    assert 128 * 128 * MAX_BYTES <= 2**31 - 1 < 128 * 128 * (MAX_BYTES + 1)
    words = np.full((1, -(-MAX_INNER // 32)), 2**32 - 1, np.uint32)
    for digit in (-128, 127):
        digits = np.full((MAX_INNER, 1), digit, np.int8)
        want = [[digit * MAX_INNER]]
        assert interpreted_bitmm(words, digits, checked=True).tolist() == want
        assert on_torch(words, digits).tolist() == want


def test_over_the_bound_is_refused():
    words = np.zeros((1, MAX_INNER // 32 + 1), np.uint32)
    with pytest.raises(LiftError, match="inner dimension of 1048569 is over 1048568"):
        on_torch(words, np.zeros((MAX_INNER + 1, 1), np.int8))


def test_dropping_the_exactness_of_plane_seven_would_show():
    """Bit 7 is worth -128, not 128: a kernel that added its plane would fail `test_extremes`."""
    bits = np.tile(np.array([0, 0, 0, 0, 0, 0, 0, 1], np.uint8), (1, 4))
    digits = np.ones((32, 1), np.int8)
    right = interpreted_bitmm(pack_bits(bits), digits)[0, 0]
    x = pack_bits(bits).view(np.int8)[0].astype(int)
    plane = int((x & -128).sum()) >> 7
    assert right == 2 * -plane - 32
    assert right != 2 * plane - 32


def test_padding_bits_are_not_read_as_digits():
    rng = np.random.default_rng(SEED)
    bits, digits = random_bits(rng, 3, 45), random_digits(rng, 45, 2)
    words = pack_bits(bits)
    words[:, -1] |= np.uint32(0xFFFFE000)
    assert np.array_equal(interpreted_bitmm(words, digits), oracle(bits, digits))
    assert np.array_equal(on_torch(words, digits), oracle(bits, digits))


def test_one_flipped_bit_changes_its_row_by_twice_its_digits():
    rng = np.random.default_rng(SEED)
    bits = random_bits(rng, 4, 100)
    bits[2, 50] = 0
    digits = random_digits(rng, 100, 5)
    before = interpreted_bitmm(pack_bits(bits), digits)
    bits[2, 50] = 1
    change = interpreted_bitmm(pack_bits(bits), digits) - before
    want = np.zeros((4, 5), int)
    want[2] = 2 * digits[50].astype(int)
    assert want.any()
    assert np.array_equal(change, want)


def test_digit_planes_layout():
    digits = torch.arange(20, dtype=torch.int8)[:, None]
    planes, sums = digit_planes(digits, 4, NARROW)
    assert planes.shape == (8, NARROW.columns, NARROW.inner)
    assert sums.tolist() == [190, *[0] * (NARROW.columns - 1)]
    for k in range(20):
        assert planes[k % 8, 0, k // 8] == k
    assert int(planes.sum()) == 190


def test_digit_planes_negative_sums_do_not_wrap():
    digits = torch.full((1000, 1), -128, dtype=torch.int8)
    _, sums = digit_planes(digits, 128, Tile(1, 1, 32, 1, 1))
    assert sums.tolist() == [-128000]


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 40),
    inner=st.integers(1, 600),
    columns=st.integers(1, 9),
)
def test_any_shape(seed, rows, inner, columns):
    rng = np.random.default_rng(seed)
    bits, digits = random_bits(rng, rows, inner), random_digits(rng, inner, columns)
    want = oracle(bits, digits)
    assert np.array_equal(interpreted_bitmm(pack_bits(bits), digits), want)
    assert np.array_equal(on_torch(pack_bits(bits), digits), want)


def test_wrong_arguments_are_named():
    words = torch.zeros((2, 2), dtype=torch.int32)
    digits = torch.zeros((64, 1), dtype=torch.int8)
    with pytest.raises(LiftError, match=r"packed words are torch\.int8"):
        bitmm(words.to(torch.int8), digits)
    with pytest.raises(LiftError, match=r"digits are torch\.int16 of shape \(64, 1\)"):
        bitmm(words, digits.short())
    with pytest.raises(LiftError, match=r"digits are torch\.int8 of shape \(64,\)"):
        bitmm(words, digits[:, 0])
    with pytest.raises(LiftError, match=r"shape \(2, 2\); need 3 words per stream"):
        bitmm(words, torch.zeros((65, 1), dtype=torch.int8))
    with pytest.raises(LiftError, match="cpu and meta; move them to one device"):
        bitmm(words, digits.to("meta"))
    with pytest.raises(LiftError, match="split it"):
        check_bitmm(
            torch.empty((1 << 20, 1), dtype=torch.int32, device="meta"),
            torch.empty((32, 1 << 12), dtype=torch.int8, device="meta"),
        )
