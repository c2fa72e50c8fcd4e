import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from algo.candidates import Pool, breed, random_start, row_starts
from algo.geometry import Geometry, code_from_taps, real_taps
from tests.conftest import random_code

MASK = 0b1011
GEOMETRY = Geometry(5, 2, 8, parities=(MASK,), drawn=4)


def pool_of(seed: int, size: int) -> Pool:
    rng = np.random.default_rng(seed)
    starts = [random_start(GEOMETRY, rng) for _ in range(size)]
    return [(float(k), code_from_taps(s.taps, s.geometry)) for k, s in enumerate(starts)]


def check_masks(parities: tuple[int, ...]) -> None:
    assert parities[0] == MASK
    assert len(set(parities)) == len(parities) == 5
    assert all(mask.bit_count() in (2, 3) and mask < 1 << 8 for mask in parities)


@given(seed=st.integers(0, 2**31))
def test_random_starts_have_the_masks_asked_for_and_equal_rows(seed: int) -> None:
    start = random_start(GEOMETRY, np.random.default_rng(seed))
    check_masks(start.geometry.parities)
    assert start.taps.shape == (2, 13)
    assert np.array_equal(start.taps[0], start.taps[1])
    np.testing.assert_allclose(np.square(start.taps).sum(1), 1)


@given(seed=st.integers(0, 2**31), size=st.integers(1, 5))
def test_bred_candidates_keep_to_the_geometry(seed: int, size: int) -> None:
    pool = pool_of(seed, size)
    before = [real_taps(code) for _, code in pool]
    child = breed(pool, GEOMETRY, np.random.default_rng(seed))
    check_masks(child.geometry.parities)
    assert child.taps.shape == (2, 13)
    assert not any(np.array_equal(child.taps, taps) for taps in before)
    # a mask that was kept has kept its place, or its taps would belong to another
    parents = [code.parities for _, code in pool]
    assert any(
        all(a == b or a not in parent
            for a, b in zip(child.geometry.parities, parent, strict=True))
        for parent in parents
    )  # fmt: skip


def test_every_row_of_another_code_is_tried() -> None:
    other = random_code(3, 2, 8, parities=(MASK, 3, 5, 6, 9))
    starts = row_starts(other, GEOMETRY)
    assert [start.geometry.parities for start in starts] == [other.parities] * 2
    for start, row in zip(starts, real_taps(other), strict=True):
        assert np.array_equal(start.taps, np.stack([row, row]))
        assert start.pace < 1
