import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.errors import LiftError
from algo.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GiB", 24 * 2**30), ("24GB", 24 * 10**9), (" 600 mib ", 600 * 2**20), ("1.5KB", 1500),
        ("0.6GiB", 644245094), ("12", 12), ("7B", 7), ("2TiB", 2**41), ("3KiB", 3072),
        ("4MB", 4 * 10**6), ("1TB", 10**12),
    ],
)  # fmt: skip
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GiB", "24G", "24 gigs", "-1GiB", "1e9", "1.GB", "1 2GB", "٢٤GB", "inf", "nan"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(LiftError, match="is not a size; write a number and a unit: 24GiB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["0", "0.0GiB", "0.1B"])
def test_nothing_is_refused(text: str) -> None:
    with pytest.raises(LiftError, match="is nothing"):
        parse_size(text)


@given(st.integers(1, 2**50))
def test_written_sizes_are_within_their_last_digit(size: int) -> None:
    text = format_size(size)
    step = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[text.rpartition(" ")[2]]
    # rounded to a hundredth of the unit; reading drops fractions of a byte
    assert abs(parse_size(text.replace(",", "")) - size) <= step / 200 + 1


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"), (1023, "1,023 B"), (1024, "1.00 KiB"), (3 * 2**29, "1.50 GiB"),
        (-(2**20), "-1.00 MiB"),
    ],
)  # fmt: skip
def test_sizes_are_written(size: int, text: str) -> None:
    assert format_size(size) == text
