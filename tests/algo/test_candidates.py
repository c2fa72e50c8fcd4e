from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo import candidates
from algo.candidates import Pool, breed, freed_start, random_start, row_starts
from algo.geometry import Geometry, code_from_taps, real_taps
from algo.learn import measure
from algo.shipped import find_code
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
    with patch.object(candidates, "_FREED", 0.0):
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


@pytest.mark.parametrize("drawn", [2, 4, 6])
def test_a_free_table_chooses_masks_and_their_taps(drawn: int) -> None:
    code = find_code("LQ-2/1+6^8")
    geometry = Geometry(2, 1, 8, parities=code.parities[:1], drawn=drawn)
    start = freed_start(code, geometry, np.random.default_rng(1))
    assert start.geometry.parities[0] == code.parities[0]
    assert len(set(start.geometry.parities)) == 1 + drawn
    assert start.taps.shape == (1, 9 + drawn)
    rest = np.abs(start.taps[0, 9:])
    assert np.all(np.diff(rest) <= 0)  # the strongest, in order
    # what a trained code leans on stays strong in the table begun at it
    shared = set(start.geometry.parities[1:]) & set(code.parities)
    assert len(shared) >= drawn // 2
    made = code_from_taps(start.taps, start.geometry)
    plain = code_from_taps(start.taps[:, :8], Geometry(2, 1, 8))
    assert measure(made, 50_000, 1)[0] < measure(plain, 50_000, 1)[0]


def test_some_are_bred_by_a_free_table() -> None:
    with patch.object(candidates, "_FREED", 1.0):
        child = breed(pool_of(1, 2), GEOMETRY, np.random.default_rng(1))
    check_masks(child.geometry.parities)
