"""The search a stretch at a time, against the search of whole streams."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo import stretch
from algo.code import LiftCode
from algo.decode import decode_bits
from algo.stretch import closing_states, path_bits, search_stretch
from algo.viterbi import EXACT_WEIGHTS, encode_streams, window_values
from tests.conftest import CODES

SLIDING = sorted(name for name, code in CODES.items() if code.overlap)


def gaussian(streams: int, weights: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((streams, weights)).astype(np.float32)


def search(targets: np.ndarray, weights: int, code: LiftCode, cuts: list[int]) -> np.ndarray:
    """Windows of all weights, searched in stretches that end at the given groups."""
    groups = targets.shape[1] // code.group
    paths = np.full(targets.shape, -1, np.int64)
    closing = closing_states(targets, weights, code)
    entry = closing.copy()
    ends = [*sorted({c % groups for c in cuts} - {0}), groups]
    for first, last in zip([0, *ends], ends, strict=False):
        search_stretch(
            targets, weights, code, first * code.group, (last - first) * code.group, entry,
            closing, paths,
        )  # fmt: skip
    assert np.array_equal(entry, closing)  # the last stretch closes the stream
    return paths


@pytest.mark.parametrize("name", SLIDING)
def test_one_stretch_is_the_search_of_the_whole_stream(name: str) -> None:
    code = CODES[name]
    length = -(-(EXACT_WEIGHTS + 40) // code.group) * code.group
    targets, weights = gaussian(5, length, 1), length - (code.group - 1)
    paths = search(targets, weights, code, [])
    assert np.array_equal(path_bits(paths, code), encode_streams(targets, weights, code))


@given(
    name=st.sampled_from(SLIDING),
    groups=st.integers(12, 70),  # the longest window spans 6 groups
    cuts=st.lists(st.integers(1, 70), max_size=8),
    unused=st.integers(0, 4),
    seed=st.integers(0, 2**31),
)
def test_any_stretches_make_a_stream_that_bites_its_tail(
    name: str, groups: int, cuts: list[int], unused: int, seed: int
) -> None:
    code = CODES[name]
    targets = gaussian(3, groups * code.group, seed)
    weights = targets.shape[1] - min(unused, code.group - 1)
    paths = search(targets, weights, code, cuts)
    values = window_values(code) * 2.0**code.exponent
    shown = np.stack([values[t % code.group][paths[:, t]] for t in range(targets.shape[1])], axis=1)
    assert np.array_equal(decode_bits(path_bits(paths, code), code), shown)


@pytest.mark.parametrize("name", ["LQ-2/1+3", "LQ-12/5+9", "LQ-2/1+6^3"])
@pytest.mark.parametrize(("windows", "bound"), [(stretch.LOOKAHEAD_WINDOWS, 1.05), (16, 1.002)])
def test_looking_ahead_is_nearly_as_good_as_knowing(
    name: str, windows: int, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows a stretch is given as it will be: far sight leaves nothing to be lost."""
    monkeypatch.setattr(stretch, "LOOKAHEAD_WINDOWS", windows)
    code = CODES[name]
    targets = gaussian(16, 240, 3)

    def error(cuts: list[int]) -> float:
        bits = path_bits(search(targets, 240, code, cuts), code)
        return float(np.square(targets - decode_bits(bits, code) * 2.0**-code.exponent).sum())

    assert error(list(range(0, 240, 3))) < bound * error([])


def test_only_the_stretch_is_decided() -> None:
    code = CODES["LQ-2/1+3"]
    targets = gaussian(2, 40, 4)
    closing = closing_states(targets, 40, code)
    paths = np.full((2, 40), -1, np.int64)
    search_stretch(targets, 40, code, 8, 12, closing.copy(), closing, paths)
    assert (paths[:, 8:20] >= 0).all()
    assert (paths[:, :8] == -1).all()
    assert (paths[:, 20:] == -1).all()
