import numpy as np
import pytest

from algo.block_search import encode_groups
from algo.code import LiftCode, block_shifts
from algo.errors import LiftError
from algo.search import encode
from tests.conftest import CODES


@pytest.mark.parametrize("name", ["LQ-16/8", "LQ-3/2", "LQ-12/5+9", "LQ-2/1+6^3"])
def test_result_does_not_depend_on_workers(name: str) -> None:
    code = CODES[name]
    targets = np.random.default_rng(1).standard_normal((37, 83)).astype(np.float32)
    alone = encode(targets, code, workers=1)
    assert alone.shape == (37, -(-83 // code.group) * code.lifted)
    assert np.array_equal(alone, encode(targets, code, workers=3))


def test_last_group_of_a_block_code_counts_its_own_weights_only() -> None:
    code = CODES["LQ-16/8"]
    targets = np.random.default_rng(2).standard_normal((6, 19)).astype(np.float32)
    bits = encode(targets, code)
    assert np.array_equal(bits[:, 32:], encode_groups(targets[:, 16:], code))


def test_progress_adds_up_to_all_weights() -> None:
    seen: list[int] = []
    encode(np.zeros((11, 30), np.float32), CODES["LQ-16/8"], on_progress=seen.append)
    assert sum(seen) == 330


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    targets = np.zeros((3, 20), np.float32)
    targets[2, 7] = bad
    with pytest.raises(LiftError, match=r"target 7 of stream 2 is (nan|inf|-inf)"):
        encode(targets, CODES["LQ-16/8"])


def test_block_code_with_parities_has_no_search() -> None:
    code = LiftCode(4, 2, 0, block_shifts(4, 2), np.ones((2, 5), np.int8), 5, (0b11,))
    with pytest.raises(LiftError, match="block codes with parities have no search"):
        encode(np.zeros((1, 4), np.float32), code)


def test_workers_must_be_there() -> None:
    with pytest.raises(LiftError, match="workers=0"):
        encode(np.zeros((1, 20), np.float32), CODES["LQ-16/8"], workers=0)


def test_numbers_beyond_float32_are_refused() -> None:
    with (
        np.errstate(over="ignore"),
        pytest.raises(LiftError, match="target 0 of stream 0 is inf"),
    ):
        encode(np.full((1, 20), 1e39), CODES["LQ-16/8"])  # type: ignore[arg-type]


def test_no_streams_give_no_bits() -> None:
    assert encode(np.zeros((0, 20), np.float32), CODES["LQ-12/5+9"]).shape == (0, 48)
