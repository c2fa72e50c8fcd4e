import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo import viterbi
from algo.code import LiftCode
from algo.decode import decode_bits
from algo.shipped import REFERENCE, load_code
from algo.viterbi import (
    encode_streams,
    encode_streams_exactly,
    make_trellis,
    table_taps,
    window_values,
)
from tests.conftest import CODES, random_code

SMALL = {
    "LQ-2/1+3": (random_code(2, 1, 5), 7),
    "LQ-1/1+4": (random_code(1, 1, 5), 12),
    "LQ-3/1+2": (random_code(3, 1, 5), 5),
    "LQ-5/2+2": (random_code(5, 2, 5), 6),
    "LQ-2/1+3^2": (random_code(2, 1, 5, parities=(0b11, 0b10101)), 7),
    "LQ-8/1+1": (random_code(8, 1, 9), 2),  # the most bits that a step may drop
    "LQ-4/1+1": (random_code(4, 1, 5), 4),  # a shift longer than what is left of the window
}


def squared_errors(targets: np.ndarray, bits: np.ndarray, code: LiftCode) -> np.ndarray:
    decoded = decode_bits(bits, code)[:, : targets.shape[1]] * 2.0**-code.exponent
    return np.square(targets - decoded).sum(1)


def brute_force(targets: np.ndarray, groups: int, code: LiftCode) -> np.ndarray:
    """Least squared error over every codeword there is."""
    every = np.array(list(itertools.product((0, 1), repeat=groups * code.lifted)), np.uint8)
    decoded = decode_bits(every, code)[:, : targets.shape[1]] * 2.0**-code.exponent
    return np.array([np.square(t - decoded).sum(1).min() for t in targets])


@given(name=st.sampled_from(sorted(SMALL)), dropped=st.integers(0, 1), seed=st.integers(0, 2**31))
def test_exact_search_is_brute_force(name: str, dropped: int, seed: int) -> None:
    code, weights = SMALL[name]
    groups = -(-weights // code.group)
    weights = groups * code.group - min(dropped, code.group - 1)
    targets = np.random.default_rng(seed).standard_normal((4, groups * code.group))
    targets = targets.astype(np.float32)
    bits = encode_streams_exactly(targets, weights, code)
    found = squared_errors(targets[:, :weights], bits, code)
    least = brute_force(targets[:, :weights], groups, code)
    np.testing.assert_allclose(found, least, rtol=1e-5)


SLIDING = [name for name in REFERENCE if load_code(name).overlap]


@pytest.mark.parametrize("name", SLIDING)
@pytest.mark.parametrize(("weights", "bound"), [(10, 1.0), (60, 1.0), (100, 1.005), (200, 1.002)])
def test_closing_state_from_the_seam_is_nearly_the_best(
    name: str, weights: int, bound: float
) -> None:
    code = load_code(name)
    targets = np.random.default_rng(8).standard_normal((24, weights)).astype(np.float32)
    quick = squared_errors(targets, encode_streams(targets, weights, code), code)
    exact = squared_errors(targets, encode_streams_exactly(targets, weights, code), code)
    assert (quick >= exact - 1e-4).all()
    assert quick.sum() <= exact.sum() * bound * (1 + 1e-6)


def test_long_streams_lose_nothing_to_rounding() -> None:
    """Costs are kept small in float32; the same windows repeated must cost the same."""
    code = CODES["LQ-2/1+3"]
    piece = np.random.default_rng(2).standard_normal((1, 64)).astype(np.float32)
    once = squared_errors(piece, encode_streams_exactly(piece, 64, code), code)
    long = np.tile(piece, 4000)
    many = squared_errors(long, encode_streams(long, long.shape[1], code), code)
    assert many <= 4000 * once * 1.0001


def test_weights_past_the_end_do_not_count() -> None:
    code = CODES["LQ-12/5+9"]
    rng = np.random.default_rng(4)
    targets = rng.standard_normal((8, 60)).astype(np.float32)
    noisy = targets.copy()
    noisy[:, 57:] = 100 * rng.standard_normal((8, 3))
    assert np.array_equal(encode_streams(targets, 57, code), encode_streams(noisy, 57, code))


@pytest.mark.parametrize("name", ["LQ-5/2+4", "LQ-2/1+6^3"])
def test_taps_of_a_codes_table_are_its_own(name: str) -> None:
    code = CODES[name]
    features = [1 << j for j in range(code.window)] + list(code.parities)
    found = table_taps(window_values(code), features)
    np.testing.assert_allclose(found, code.window_taps * 2.0**-code.exponent, atol=1e-6)
    others = [m for m in range(1 << code.window) if m not in features]
    np.testing.assert_allclose(table_taps(window_values(code), others), 0, atol=1e-6)


def test_window_values_are_the_decoder(code: LiftCode) -> None:
    if code.window > 12:
        code = CODES["LQ-5/2+4"]
    values = window_values(code)
    groups = -(-(code.lifted + code.overlap) // code.lifted) + 1
    bits = np.random.default_rng(1).integers(0, 2, (1, groups * code.lifted), np.uint8)
    decoded = decode_bits(bits, code)[0] * 2.0**-code.exponent
    for i, start in enumerate(code.starts):
        window = sum(int(bits[0, start + j]) << j for j in range(code.window))
        assert values[i, window] == decoded[i]


@pytest.mark.parametrize("target", [-1e3, 0.0, 1e3])
def test_extreme_targets_reach_the_extreme_codewords(target: float) -> None:
    code = random_code(2, 1, 6, seed=3)
    targets = np.full((1, 40), target, np.float32)
    bits = encode_streams_exactly(targets, 40, code)
    error = squared_errors(targets, bits, code)
    for fixed in (np.zeros_like(bits), np.ones_like(bits)):
        assert error <= squared_errors(targets, fixed, code) * (1 + 1e-6)


def test_kept_tables_belong_to_their_code() -> None:
    """Codes of one geometry take turns, with taps of their own in between; each gets its own."""
    rng = np.random.default_rng(5)
    targets = rng.standard_normal((2, 80)).astype(np.float32)
    codes = [random_code(2, 1, 6, seed=seed) for seed in range(12)]  # more than are kept
    alone = [encode_streams_exactly(targets, 80, code) for code in codes]
    for _ in range(2):
        for code, bits in zip(codes, alone, strict=True):
            other = make_trellis(code, rng.standard_normal(code.window_taps.shape))
            encode_streams(targets, 80, code, other)
            assert np.array_equal(encode_streams_exactly(targets, 80, code), bits)
    with ThreadPoolExecutor(4) as pool:
        again = pool.map(lambda code: encode_streams_exactly(targets, 80, code), codes)
        assert all(np.array_equal(a, b) for a, b in zip(again, alone, strict=True))


def test_tables_are_made_once_for_equal_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(viterbi, "window_values", lambda *a: made.append(a) or window_values(*a))
    targets = np.zeros((1, 20), np.float32)
    for _ in range(3):
        encode_streams(targets, 20, random_code(2, 1, 5, seed=987))
    assert len(made) == 1
