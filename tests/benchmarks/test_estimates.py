"""The predicted speeds on record."""

import pytest

from algo.errors import LiftError
from benchmarks.estimates import END, PAGE, PICTURE, START, page_with, question
from liftquant.estimating import answer


def test_the_page_shows_what_the_model_says() -> None:
    """Else run ``python -m benchmarks.estimates``."""
    page = PAGE.read_text(encoding="utf-8")
    assert page_with(answer(question()), page) == page
    assert f"]({PICTURE.name})" in page


def test_a_page_without_marks_is_refused() -> None:
    result = answer(question())
    for page in ("", START, END, END + START):
        with pytest.raises(LiftError, match="lacks the lines"):
            page_with(result, page)


def test_tables_are_between_the_marks_and_nothing_else_changes() -> None:
    page = page_with(answer(question()), f"before\n{START}old\n{END}after\n")
    assert page.startswith(f"before\n{START}")
    assert page.endswith(f"{END}after\n")
    assert "old" not in page
    assert page.count("ESTIMATE") == 2
