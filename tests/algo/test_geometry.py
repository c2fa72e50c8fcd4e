import numpy as np
import pytest

from algo.errors import LiftError
from algo.geometry import Geometry, cell_triples, code_from_taps, real_taps
from tests.conftest import CODES


@pytest.mark.parametrize("bits", [4, 5, 6, 7, 8])
def test_taps_keep_to_their_width(bits: int) -> None:
    rng = np.random.default_rng(bits)
    code = code_from_taps(rng.standard_normal((2, 9)) / 3, Geometry(5, 2, 9, taps_bits=bits))
    largest = int(np.abs(code.taps).max())
    assert 2 ** (bits - 2) <= largest <= 2 ** (bits - 1) - 1  # the finest exponent that fits


def test_real_taps_make_the_same_code() -> None:
    code = CODES["LQ-2/1+6^3"]
    again = code_from_taps(real_taps(code), Geometry(2, 1, 8, code.parities))
    assert np.array_equal(real_taps(again), real_taps(code))


def test_masks_are_all_pairs_and_triples() -> None:
    masks = Geometry(2, 1, 8, parities=(0b11, 0b111)).masks()
    assert len(masks) == len(set(masks)) == 28 + 56 - 2
    assert {mask.bit_count() for mask in masks} == {2, 3}
    assert max(masks) < 1 << 8


@pytest.mark.parametrize(
    ("window", "cells", "count"), [(8, 2, 8), (12, 3, 12), (16, 4, 16), (10, 3, 6)]
)
def test_cells_are_interleaved_and_have_all_their_triples(
    window: int, cells: int, count: int
) -> None:
    masks = cell_triples(window, cells)
    assert len(set(masks)) == count
    for mask in masks:
        bits = [j for j in range(window) if mask >> j & 1]
        assert len(bits) == 3
        assert len({j % cells for j in bits}) == 1


@pytest.mark.parametrize("cells", [0, 3])
def test_cells_of_less_than_three_bits_are_refused(cells: int) -> None:
    with pytest.raises(LiftError, match=f"{cells} cells: a window of 8 bits has 1 to 2"):
        cell_triples(8, cells)


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (Geometry(2, 1, 8, taps_bits=9), "taps of 9 bits: the width must be 4 to 8"),
        (Geometry(2, 1, 8, taps_bits=3), "taps of 3 bits: the width must be 4 to 8"),
        (Geometry(16, 8, drawn=2), "a block code with parities has no search"),
        (Geometry(2, 1, 4, drawn=11), "11 parities asked for, but a window of 4 bits has only 10"),
        (Geometry(2, 1, 4, (0b11, 0b11)), "repeat"),
    ],
)
def test_what_no_code_can_have_is_refused(geometry: Geometry, message: str) -> None:
    with pytest.raises(LiftError, match=message):
        geometry.check()
