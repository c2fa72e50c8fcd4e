import dataclasses
import json

import numpy as np
import pytest

from algo.code import LiftCode, block_shifts, parse_name, sliding_shifts
from algo.errors import LiftError
from tests.conftest import CODES, random_code


def block(taps: np.ndarray, **changes: object) -> LiftCode:
    fields = {
        "lifted": taps.shape[1], "group": len(taps), "overlap": 0,
        "shifts": block_shifts(taps.shape[1], len(taps)), "taps": taps, "exponent": 6,
    }  # fmt: skip
    return LiftCode(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CODES)
def test_name_states_the_geometry(name: str) -> None:
    code = CODES[name]
    assert code.name == name
    assert parse_name(name) == (code.lifted, code.group, code.overlap, len(code.parities), 0)


@pytest.mark.parametrize(
    ("masks", "cells", "suffix"),
    [
        ((0b0011,), 1, "^1"),
        ((0b0011, 0b0110, 0b1100), 1, "^3"),  # the third joins what the first two connect
        ((0b0011, 0b11000, 0b101010), 1, "^3"),
        ((0b0011, 0b11000), 1, "^2"),  # two bits are in no parity
        ((0b010101, 0b101010), 2, "^2:2"),
        ((0b000011, 0b001100, 0b110000), 3, "^3:3"),
    ],
)
def test_name_states_the_cells_of_parities(masks: tuple[int, ...], cells: int, suffix: str) -> None:
    taps = np.ones((1, 6 + len(masks)), np.int8)
    code = LiftCode(2, 1, 4, (2,), taps, 0, masks)
    assert code.cells == cells
    assert code.name == f"LQ-2/1+4{suffix}"
    assert parse_name(code.name) == (2, 1, 4, len(masks), cells if cells > 1 else 0)


@pytest.mark.parametrize("name", ["", "24/10", "LQ-24", "LQ-24/10+", "LQ-24/10 ", "lq-24/10"])
def test_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(LiftError, match="is not a code name"):
        parse_name(name)


def test_shifts_spread_bits_evenly() -> None:
    assert sliding_shifts(12, 5) == (2, 2, 3, 2, 3)
    assert sliding_shifts(2, 1) == (2,)


def test_windows_begin_at_the_sum_of_earlier_shifts() -> None:
    code = CODES["LQ-12/5+9"]
    assert code.starts == (0, 2, 4, 7, 9)
    assert code.window == 12
    assert code.rate == 2.4


def test_row_sum_of_2047_is_the_largest_allowed() -> None:
    taps = np.full((1, 17), 127, np.int8)
    taps[0, 16] = 2047 - 16 * 127
    assert block(taps).window_taps.astype(int).sum() == 2047
    taps[0, 16] += 1
    with pytest.raises(LiftError, match=r"row 0 of the taps sums to 2048 .* scale the taps down"):
        block(taps)


def test_row_sum_counts_the_most_negative_tap_whole() -> None:
    with pytest.raises(LiftError, match="sums to 2048"):
        block(np.full((1, 16), -128, np.int8))


def test_taps_outside_the_window_are_refused() -> None:
    code = CODES["LQ-12/5+9"]
    taps = code.taps.copy()
    taps[2, 3] = 1
    with pytest.raises(
        LiftError, match=r"row 2 .* non-zero at bit 3, outside its window \[4, 16\)"
    ):
        dataclasses.replace(code, taps=taps)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lifted": 0}, "must be at least 1"),
        ({"overlap": -1}, "must be at least 1 and overlap at least 0"),
        ({"shifts": (3, 4)}, "must be 2 integers that sum to 6"),
        ({"shifts": (6,)}, "must be 2 integers that sum to 6"),
        ({"shifts": (-1, 7)}, "non-negative"),
        ({"exponent": 16}, "exponent 16 is outside 0..15"),
        ({"taps": np.ones((2, 6))}, "float64 .* must be int8"),
        ({"taps": np.ones((2, 5), np.int8)}, r"shape \(2, 5\); they must be int8"),
        ({"parities": (0b1,)}, "must name two or more"),
        ({"parities": (0b11, 1 << 6)}, "parity mask 0x40"),
    ],
)
def test_each_rule_has_its_message(changes: dict[str, object], message: str) -> None:
    with pytest.raises(LiftError, match=message):
        dataclasses.replace(block(np.ones((2, 6), np.int8)), **changes)


def test_repeated_parities_are_refused() -> None:
    with pytest.raises(LiftError, match="repeat; drop the copies"):
        block(np.ones((2, 8), np.int8), lifted=6, shifts=(0, 6), parities=(3, 3))


def test_window_limits() -> None:
    with pytest.raises(LiftError, match="window of 33 bits is over the limit of 32"):
        random_code(33, 16)
    with pytest.raises(LiftError, match="window of 17 bits is over the limit of 16"):
        random_code(2, 1, 17)


def test_shifts_of_sliding_codes_are_limited() -> None:
    with pytest.raises(LiftError, match="shift of 9 bits is over the limit of 8"):
        random_code(9, 1, 10)
    assert random_code(9, 1).shifts == (9,)  # a block code has no trellis


def test_sliding_code_needs_positive_shifts() -> None:
    with pytest.raises(LiftError, match="must all be positive in a sliding code"):
        LiftCode(4, 2, 2, (0, 4), np.ones((2, 6), np.int8), 5)


def test_taps_are_a_copy_that_nobody_can_change() -> None:
    taps = np.ones((2, 6), np.int8)
    code = block(taps)
    taps[0, 0] = 5
    assert code.taps[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        code.taps[0, 0] = 5


def test_definition_round_trips_through_json(code: LiftCode) -> None:
    fields = json.loads(json.dumps({**code.definition(), "sha256": code.sha256}))
    again = LiftCode.from_definition(fields)
    assert again == code
    assert np.array_equal(again.taps, code.taps)


def test_hash_covers_every_field() -> None:
    code = CODES["LQ-2/1+6^3"]
    taps = code.taps.copy()
    taps[0, 0] += 1
    others = [
        dataclasses.replace(code, taps=taps),
        dataclasses.replace(code, exponent=code.exponent + 1),
        dataclasses.replace(code, parities=(0b11, 0b1000001, 0b10110001)),
    ]
    assert len({code.sha256, *(o.sha256 for o in others)}) == 4


def test_known_hash_so_that_the_definition_cannot_drift() -> None:
    code = block(np.array([[1, -2, 3]], np.int8))
    assert code.sha256 == "226be03d149fcc8f61b1384f9733e39d08ed57e87fe95aefe079593d90590ab3"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "hashes to .* but 000000000000... is stated"),
        ({"taps": None}, "taps must be integers"),
        ({"taps": [[1.5, 2]]}, "taps must be integers"),
        ({"taps": [[200] * 24] * 10}, "taps must be integers in -128..127"),
        ({"taps": [[1, 2], [3]]}, "malformed field"),
        ({"lifted": "many"}, "must be integers"),
        ({"lifted": 24.5}, "must be integers"),
        ({"lifted": float("inf")}, "must be integers"),
        ({"shifts": [float("inf")] * 10}, "malformed field"),
        ({"exponent": 99}, "somewhere: exponent 99"),
    ],
)
def test_altered_definition_is_refused(changes: dict[str, object], message: str) -> None:
    code = CODES["LQ-24/10"]
    fields = {**code.definition(), "sha256": code.sha256, **changes}
    with pytest.raises(LiftError, match=message):
        LiftCode.from_definition(fields, "somewhere")


def test_missing_field_is_named() -> None:
    fields = CODES["LQ-24/10"].definition()
    del fields["shifts"]
    with pytest.raises(LiftError, match="field 'shifts' is missing"):
        LiftCode.from_definition(fields)
