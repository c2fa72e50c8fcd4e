"""Pieces of text are whole characters, as early as they can be, and nothing is lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liftquant.text_pieces import TextPieces
from tests.liftquant.scripted import END, byte_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer()


def _pieces(tokenizer: Any, tokens: list[int]) -> list[str]:
    pieces = TextPieces(tokenizer)
    return [*map(pieces.add, tokens), pieces.rest()]


@given(text=st.text(st.characters(exclude_characters="\ufffd", codec="utf-8")))
def test_every_character_comes_with_its_last_byte(tokenizer: Any, text: str) -> None:
    tokens = tokenizer(text)["input_ids"] if text else []
    assert len(tokens) == len(text.encode())
    expected = [p for c in text for p in [""] * (len(c.encode()) - 1) + [c]]
    assert _pieces(tokenizer, tokens) == [*expected, ""]


@given(tokens=st.lists(st.integers(0, END)))
def test_all_pieces_are_the_whole_text(tokenizer: Any, tokens: list[int]) -> None:
    """Of any bytes, those that are no text included."""
    whole = tokenizer.decode(tokens, skip_special_tokens=True)
    assert "".join(_pieces(tokenizer, tokens)) == whole


def test_spaces_between_words_are_kept(tokenizer: Any) -> None:
    """With a decoder that drops the space at the start of whatever it decodes."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = {"▁one": 0, "▁two": 1, "s": 2, "<unk>": 3}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.decoder = decoders.Metaspace()
    spaced = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    assert spaced.decode([1]) == "two"  # so that pieces decoded alone would be wrong
    assert _pieces(spaced, [0, 1, 2, 0]) == ["one", " two", "s", " one", ""]


def test_a_character_cut_off_at_the_end_is_shown_as_such(tokenizer: Any) -> None:
    assert _pieces(tokenizer, [*b"a\xe6\x97"]) == ["a", "", "", "\ufffd"]
