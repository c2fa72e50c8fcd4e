"""The one-bit form of the integer layer equals the layer; its bounds hold and are reached."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo import lifted
from algo.activations import LARGEST, quantise_activations
from algo.code import LiftCode, block_shifts
from algo.errors import LiftError
from algo.lifted import (
    MAX_INNER,
    bounds,
    digit_range,
    from_digits,
    lift,
    one_bit_words,
    project,
    signed_digits,
)
from algo.matrix import AXES, Axis, PackedMatrix, word_shape
from algo.packing import pack_bits, unpack_bits
from tests.conftest import CODES, random_code

PLAIN = {name: code for name, code in CODES.items() if not code.parities}
codes = st.sampled_from(list(PLAIN.values()))


def packed(code: LiftCode, axis: Axis, shape: tuple[int, int], seed: int) -> PackedMatrix:
    rng = np.random.default_rng(seed)
    streams, weights = shape if axis == "in" else shape[::-1]
    bits = -(-weights // code.group) * code.lifted
    words = pack_bits(rng.integers(0, 2, (streams, bits)).astype(np.uint8))
    assert words.shape == word_shape(shape, code, axis)
    return PackedMatrix(code, axis, shape, words, torch.ones(shape[0], dtype=torch.bfloat16))


def product(matrix: PackedMatrix, x: np.ndarray) -> np.ndarray:
    """The layer's integers ``(tokens, rows)`` by lifting, the one-bit product and projection."""
    code, words = matrix.code, one_bit_words(matrix)
    if matrix.axis == "in":
        x = lift(x, code, matrix.groups)
    signs = unpack_bits(words, x.shape[1]).astype(np.int64) * 2 - 1
    sums = signs @ x.T
    return (sums if matrix.axis == "in" else project(sums, code, matrix.shape[0])).T


@given(
    code=codes,
    axis=st.sampled_from(AXES),
    rows=st.integers(24, 80),
    columns=st.integers(24, 80),
    seed=st.integers(0, 2**32 - 1),
)
def test_one_bit_form_is_the_layer(
    code: LiftCode, axis: Axis, rows: int, columns: int, seed: int
) -> None:
    matrix = packed(code, axis, (rows, columns), seed)
    x = np.random.default_rng(seed).integers(-16256, 16257, (3, columns))
    expected = x @ matrix.accumulators().astype(np.int64).T
    assert np.array_equal(product(matrix, x), expected)


@given(code=codes, groups=st.integers(8, 20), seed=st.integers(0, 2**32 - 1))
def test_lift_is_the_transpose_of_project(code: LiftCode, groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-999, 1000, (1, groups * code.group))
    s = rng.integers(-999, 1000, (groups * code.lifted, 1))
    assert (lift(x, code, groups) @ s).item() == (x @ project(s, code, x.shape[1])).item()


@given(
    base=st.sampled_from([4, 128, 256]),
    count=st.integers(1, 4),
    values=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=9),
)
def test_digits_are_signed_and_come_back(base: int, count: int, values: list[int]) -> None:
    least, largest = digit_range(base, count)
    array = np.clip(np.array(values, np.int64), least, largest)
    digits = signed_digits(array, base, count)
    assert digits.shape == (count, len(values))
    assert digits.min() >= -base // 2
    assert digits.max() <= base // 2 - 1
    assert np.array_equal(from_digits(digits, base), array)


def test_two_digits_of_base_128_are_those_of_quantised_activations() -> None:
    x = torch.arange(-127 * 128, 127 * 128 + 1, 7).double()[None]
    parts, step = quantise_activations(x, 2)
    integers = from_digits(parts.numpy(), 128)
    # upper digits reach 127 there, though those of a number system end at 63
    assert np.array_equal(integers[0], np.rint(x[0].numpy() / step.item()))
    small = integers[np.abs(integers) < 8000]
    assert np.array_equal(signed_digits(small, 128, 2), signed_digits(small, 128, 3)[:2])


def test_integers_over_their_digits_are_refused() -> None:
    assert digit_range(256, 2) == (-32896, 32639)
    signed_digits(np.array([-32896, 32639]), 256, 2)
    with pytest.raises(LiftError, match="-32896 to 32640 do not fit 2 digits of base 256"):
        signed_digits(np.array([-32896, 32640]), 256, 2)
    with pytest.raises(LiftError, match="2 digits of base 257"):
        signed_digits(np.array([0]), 257, 2)


def test_parities_are_refused() -> None:
    code = CODES["LQ-2/1+6^3"]
    said = r"LQ-2/1\+6\^3 has 3 parities.*decode the layer, or quantise it with --no-parities"
    matrix = packed(code, "in", (3, 40), 0)
    for call in (
        lambda: one_bit_words(matrix),
        lambda: project(np.zeros((80, 1), np.int64), code, 40),
        lambda: lift(np.zeros((1, 40), np.int64), code, 40),
        lambda: bounds((3, 40), code, "in", 1),
    ):
        with pytest.raises(LiftError, match=said):
            call()


def test_wrong_shapes_are_named() -> None:
    code = CODES["LQ-12/5+9"]
    with pytest.raises(LiftError, match=r"shape \(95, 1\); 40 weights in LQ-12/5\+9 need \(96, n"):
        project(np.zeros((95, 1), np.int64), code, 40)
    for columns in (35, 41):
        with pytest.raises(LiftError, match=f"{columns} activations do not fill 8 groups of 5"):
            lift(np.zeros((1, columns), np.int64), code, 8)


def test_corrupt_padding_is_refused() -> None:
    odd = packed(CODES["LQ-3/2"], "in", (3, 41), 0)
    words = odd.words.copy()
    words[1, -1] |= np.uint32(1 << 31)
    with pytest.raises(LiftError, match="stream 1 has padding bits set after bit 63"):
        one_bit_words(PackedMatrix(odd.code, "in", odd.shape, words, odd.scales))


@given(
    code=codes,
    axis=st.sampled_from(AXES),
    digits=st.sampled_from([1, 2]),
    rows=st.integers(24, 60),
    columns=st.integers(24, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_bounds_are_never_exceeded(
    code: LiftCode, axis: Axis, digits: int, rows: int, columns: int, seed: int
) -> None:
    matrix = packed(code, axis, (rows, columns), seed)
    most = bounds((rows, columns), code, axis, digits)  # type: ignore[arg-type]
    x = np.random.default_rng(seed).choice([-1, 1], (2, columns)) * LARGEST[digits]
    operand = lift(x, code, matrix.groups) if axis == "in" else x
    assert np.abs(operand).max() <= most.operand
    signs = unpack_bits(one_bit_words(matrix), operand.shape[1]).astype(np.int64) * 2 - 1
    assert signs.shape[1] == most.inner
    if axis == "in":
        parts = signed_digits(operand, most.base, most.digits)
    else:
        parts = quantise_activations(torch.from_numpy(x), digits)[0].numpy()  # type: ignore[arg-type]
    for part in parts:
        sums = signs @ part.T.astype(np.int64)
        assert np.abs(sums).max() <= most.sums
        if axis == "out":
            sums = project(sums, code, rows)
        assert np.abs(sums).max() <= most.projected
    assert np.abs(product(matrix, x)).max() <= most.combined


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("digits", [1, 2])
def test_bounds_are_reached_on_axis_out(name: str, digits: int) -> None:
    code = PLAIN[name]
    row = int(np.abs(code.taps.astype(int)).sum(axis=1).argmax())
    weights, columns = 12 * code.group, 30
    most = bounds((weights, columns), code, "out", digits)  # type: ignore[arg-type]
    # the window of weight `row` of group 0 has the signs of its taps in every column
    bits = np.zeros((columns, 12 * code.lifted), np.uint8)
    bits[:, : code.lifted + code.overlap] = code.taps[row] >= 0
    signs = bits.T.astype(np.int64) * 2 - 1
    for digit, bound in ((127, most.projected), (LARGEST[digits], most.combined)):
        sums = signs @ np.full((columns, 1), digit)
        assert project(sums, code, weights)[row].item() == bound
    assert np.abs(signs @ np.full((columns, 1), 127)).max() == most.sums


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("digits", [1, 2])
def test_bounds_are_reached_on_axis_in(name: str, digits: int) -> None:
    code = PLAIN[name]
    groups = 12
    most = bounds((3, groups * code.group), code, "in", digits)  # type: ignore[arg-type]
    reached = 0
    for bit in range(code.lifted):
        # what each activation is worth at this bit, by lifting one at a time
        x = np.eye(groups * code.group, dtype=np.int64)
        worth = lift(x, code, groups)[:, bit + 5 * code.lifted]
        worst = np.where(worth < 0, -1, 1) * LARGEST[digits]
        reached = max(reached, int(lift(worst[None], code, groups)[0, bit + 5 * code.lifted]))
    assert reached == most.operand
    low, high = digit_range(most.base, most.digits)
    assert low <= -reached <= reached <= high
    if most.digits > 1:
        assert reached > digit_range(most.base, most.digits - 1)[1]
        # all lower digits can be -128 at once, and then the sums are as large as they can be
        parts = signed_digits(np.full((most.inner, 1), -128), most.base, most.digits)
        assert -int(parts[0].astype(np.int64).sum()) == most.sums


def test_widths() -> None:
    block = random_code(24, 10)
    heavy = LiftCode(16, 1, 0, block_shifts(16, 1), np.full((1, 16), 127, np.int8), 6)
    assert bounds((16, 8000), heavy, "out", 1).projected < 2**31
    assert bounds((16, 8400), heavy, "out", 1).projected == 127 * 2032 * 8400 > 2**31
    assert bounds((16, 8400), heavy, "out", 1).sums == 127 * 8400
    assert bounds((16, 4096), block, "in", 1).per_token == 4
    assert bounds((16, 4096), block, "out", 2).per_token == 2
    assert bounds((16, 4096), block, "out", 1).per_token == 1


def test_layers_that_could_overflow_are_refused() -> None:
    code = CODES["LQ-16/8"]
    bounds((40, MAX_INNER), code, "out", 2)
    said = rf"40x{MAX_INNER + 1} layer in LQ-16/8 on axis out .* {MAX_INNER + 1}, over {MAX_INNER}"
    with pytest.raises(LiftError, match=said):
        bounds((40, MAX_INNER + 1), code, "out", 1)
    with pytest.raises(LiftError, match=r"3x600000 layer in LQ-16/8 .* of 1200000, over"):
        bounds((3, 600_000), code, "in", 1)


def test_activations_lifted_over_four_digits_are_refused() -> None:
    taps = np.full((1100, 1), 127, np.int8)
    code = LiftCode(1, 1100, 0, block_shifts(1, 1100), taps, 6)
    assert bounds((3, 2200), code, "in", 1).digits == 4
    with pytest.raises(LiftError, match=r"lifts activations to as much as 2270963200.*decode"):
        bounds((3, 2200), code, "in", 2)


def test_integers_that_float64_would_round_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    code = CODES["LQ-16/8"]
    most = bounds((40, 4096), code, "out", 2).combined
    monkeypatch.setattr(lifted, "MAX_COMBINED", most)
    bounds((40, 4096), code, "out", 2)
    with pytest.raises(LiftError, match=r"40x4097 layer .* dimension 4097, can sum to .* float64"):
        bounds((40, 4097), code, "out", 2)
