import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from algo.errors import LiftError
from algo.evaluate import perplexity, token_windows
from algo.text import evaluation_text


class Fixed(nn.Module):
    """A model whose logits depend on the token alone."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = table

    def forward(self, tokens: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table[tokens])


def letters(text: str, **_: object) -> dict[str, list[int]]:
    return {"input_ids": [ord(c) % 50 for c in text]}


def test_model_that_knows_nothing_has_the_perplexity_of_the_vocabulary() -> None:
    windows = token_windows("the quick brown fox jumps" * 10, letters, 10, None)
    result = perplexity(Fixed(torch.zeros(50, 50)), windows)
    assert math.isclose(result.value, 50, rel_tol=1e-6)
    assert result.standard_error < 1e-4
    assert (result.windows, result.context, result.predicted) == (25, 10, 225)


def test_perplexity_is_that_of_the_next_token() -> None:
    windows = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7]])
    follows = torch.full((8, 8), -30.0)
    follows[torch.arange(7), torch.arange(1, 8)] = 30.0
    assert math.isclose(perplexity(Fixed(follows), windows).value, 1, rel_tol=1e-6)


def test_batch_changes_nothing() -> None:
    table = torch.randn(50, 50, generator=torch.Generator().manual_seed(1))
    windows = token_windows(evaluation_text()[:5000], letters, 32, None)
    values = [perplexity(Fixed(table), windows, batch).value for batch in (1, 7, 100)]
    assert max(values) - min(values) < 1e-9


def test_windows_are_cut_and_the_rest_dropped() -> None:
    windows = token_windows("abcdefgh", letters, 3, 7)
    assert windows.tolist() == [[47, 48, 49], [0, 1, 2]]


def test_text_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(LiftError, match="3 tokens, fewer than one window of 4"):
        token_windows("abc", letters, 4, None)
    with pytest.raises(LiftError, match="context of 1 tokens predicts nothing"):
        token_windows("abc", letters, 1, None)
