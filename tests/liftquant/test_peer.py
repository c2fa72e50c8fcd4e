from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from liftquant.peer import Setting, settings_near


def _settings(bits: Sequence[float], family: str = "") -> list[Setting]:
    return [Setting(f"{b}", b, {}, family) for b in bits]


def test_neighbours_of_every_size_are_chosen_once_and_in_order() -> None:
    settings = _settings([1.9, 2.1, 2.3, 2.5, 3.0, 3.5])
    chosen = [s.bits for s in settings_near(settings, [2, 2.4])]
    assert chosen == [1.9, 2.1, 2.3, 2.5]


def test_setting_of_exactly_the_size_counts_as_above() -> None:
    assert [s.bits for s in settings_near(_settings([2.9, 3.0, 3.1]), [3])] == [2.9, 3.0]


def test_far_settings_are_left_out() -> None:
    assert settings_near(_settings([2.0, 4.0]), [3]) == []


def test_families_are_chosen_apart() -> None:
    settings = _settings([2.1], "a") + _settings([2.2], "b")
    assert settings_near(settings, [2]) == settings


@given(st.lists(st.floats(1, 5), max_size=12), st.lists(st.floats(1, 5), max_size=4))
def test_no_setting_lies_between_a_size_and_what_was_chosen(
    bits: list[float], sizes: list[float]
) -> None:
    settings = _settings(bits)
    chosen = settings_near(settings, sizes)
    assert len(chosen) <= 2 * len(sizes)
    for size in sizes:
        near = [b for b in bits if abs(b - size) <= 0.6]
        if near:
            assert min(near, key=lambda b: abs(b - size)) in [s.bits for s in chosen]
