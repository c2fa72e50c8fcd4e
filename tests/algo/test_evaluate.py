import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from algo.errors import LiftError
from algo.evaluate import compare_logits, perplexity, token_windows
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


def table(seed: int, spread: float = 1.0) -> torch.Tensor:
    return spread * torch.randn(50, 50, generator=torch.Generator().manual_seed(seed))


@given(context=st.integers(2, 12), data=st.data(), length=st.integers(12, 60))
def test_sliding_windows_predict_every_token_once(
    context: int, data: st.DataObject, length: int
) -> None:
    """A model whose loss names the token tells which tokens were counted, and how often."""
    stride = data.draw(st.integers(1, context))

    class Telling(nn.Module):
        def forward(self, tokens: torch.Tensor) -> SimpleNamespace:
            # the likelihood of the next token, which a causal model does not see, is 2**-next
            logits = torch.zeros(*tokens.shape, 64, dtype=torch.float64)
            logits[:] = -math.log(2) * torch.arange(64)
            return SimpleNamespace(logits=logits)

    def counting(text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": list(range(len(text)))}

    windows = token_windows("x" * length, counting, context, None, stride)
    result = perplexity(Telling(), windows, 3, stride=stride)
    reached = windows[-1, -1].item()
    assert reached > length - 1 - stride
    if stride < context:
        expected = list(range(1, reached + 1))
    else:  # windows side by side: the first token of each has nothing before it
        expected = [t for t in range(reached + 1) if t % context]
    assert result.predicted == len(expected)
    norm = math.log(sum(2.0**-t for t in range(64)))
    mean = sum(t * math.log(2) + norm for t in expected) / len(expected)
    assert math.log(result.value) == pytest.approx(mean, rel=1e-6)


def test_stride_of_the_whole_context_is_the_default() -> None:
    windows = token_windows(evaluation_text()[:999], letters, 16, None)
    assert torch.equal(token_windows(evaluation_text()[:999], letters, 16, None, 16), windows)
    model = Fixed(table(1))
    assert perplexity(model, windows, stride=16) == perplexity(model, windows)


@pytest.mark.parametrize("stride", [0, 17])
def test_stride_that_skips_tokens_is_refused(stride: int) -> None:
    with pytest.raises(LiftError, match=f"stride of {stride} tokens does not fit windows of 16"):
        token_windows("a" * 40, letters, 16, None, stride)
    with pytest.raises(LiftError, match=f"stride of {stride} tokens does not fit windows of 16"):
        perplexity(Fixed(table(1)), torch.zeros(2, 16, dtype=torch.int64), stride=stride)


def test_divergence_equals_its_closed_form() -> None:
    """Two tokens, probabilities known: KL = sum p ln(p / q)."""
    p, q = (0.8, 0.2), (0.3, 0.7)
    reference, model = (Fixed(torch.tensor(x).log().expand(2, 2)) for x in (p, q))
    result = compare_logits(reference, model, torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0]]))
    assert result.kl == pytest.approx(0.8 * math.log(8 / 3) + 0.2 * math.log(2 / 7), rel=1e-6)
    assert result.standard_error < 1e-9
    assert (result.top1, result.top1_error) == (0, 0)
    wanted = (4 * math.log(0.8) + 2 * math.log(0.2)) / 6
    assert result.reference.value == pytest.approx(math.exp(-wanted), rel=1e-6)


def test_identical_models_do_not_diverge() -> None:
    windows = token_windows(evaluation_text()[:3000], letters, 32, None)
    result = compare_logits(Fixed(table(1)), Fixed(table(1)), windows)
    assert (result.kl, result.standard_error, result.top1) == (0, 0, 1)
    assert result.reference == result.model == perplexity(Fixed(table(1)), windows)


def test_divergence_looks_at_the_reference_first() -> None:
    windows = token_windows(evaluation_text()[:3000], letters, 32, None)
    sharp, flat = Fixed(table(1, 3.0)), Fixed(table(2, 0.1))
    one, other = (compare_logits(a, b, windows) for a, b in ((sharp, flat), (flat, sharp)))
    assert one.kl != pytest.approx(other.kl, rel=0.1)
    assert one.top1 == other.top1
    assert one.reference == other.model
    assert one.model == perplexity(flat, windows)


@given(batch=st.integers(1, 40), stride=st.integers(1, 16))
def test_batch_changes_no_divergence(batch: int, stride: int) -> None:
    windows = token_windows(evaluation_text()[:300], letters, 16, None, stride)
    models = Fixed(table(1)), Fixed(table(2))
    one = compare_logits(*models, windows, 1, stride=stride)
    assert compare_logits(*models, windows, batch, stride=stride) == one


def test_standard_error_is_that_of_windows_side_by_side() -> None:
    windows = token_windows(evaluation_text()[:3000], letters, 32, None)
    models = Fixed(table(1)), Fixed(table(2))
    means = torch.tensor([compare_logits(*models, w[None]).kl for w in windows]).double()
    result = compare_logits(*models, windows)
    assert result.kl == pytest.approx(means.mean().item(), rel=1e-6)
    error = means.std().item() / len(means) ** 0.5
    assert result.standard_error == pytest.approx(error, rel=1e-5)


def test_progress_counts_every_window() -> None:
    seen: list[int] = []
    windows = token_windows(evaluation_text()[:3000], letters, 32, None)
    compare_logits(Fixed(table(1)), Fixed(table(2)), windows, 5, seen.append)
    assert sum(seen) == len(windows)


def test_models_of_two_vocabularies_are_refused() -> None:
    windows = torch.zeros(1, 4, dtype=torch.int64)
    with pytest.raises(LiftError, match="predict 50 and 49 tokens"):
        compare_logits(Fixed(table(1)), Fixed(table(1)[:, :49]), windows)


def test_broken_models_are_named() -> None:
    windows = torch.zeros(1, 4, dtype=torch.int64)
    with pytest.raises(LiftError, match="NaN or infinity"):
        compare_logits(Fixed(table(1)), Fixed(table(1) * math.nan), windows)
    far = torch.zeros(50, 50)
    far[:, 0] = -1e5
    with pytest.raises(LiftError, match=r"log-likelihood is 1e\+05 nats"):
        perplexity(Fixed(far), windows)
