"""Perplexity of a causal language model on a text, in windows of fixed length."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from algo.errors import LiftError


@dataclass(frozen=True)
class Perplexity:
    """Result of one evaluation.

    Attributes:
        value: exp of the mean negative log-likelihood.
        standard_error: of `value`, from the spread between windows.
        predicted: tokens predicted, one fewer per window than it has.
        windows, context: how many windows of how many tokens.
    """

    value: float
    standard_error: float
    predicted: int
    windows: int
    context: int


def token_windows(text: str, tokenizer: Any, context: int, limit: int | None) -> torch.Tensor:
    """int64 ``(windows, context)``: the text cut into windows, what is left over dropped.

    Raises:
        LiftError: the text does not fill one window.
    """
    if context < 2:
        raise LiftError(f"a context of {context} tokens predicts nothing; use 2 or more")
    # the tokenizer warns of a text longer than the model's context, which it is cut to below
    ids = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    ids = ids[:limit]
    if len(ids) < context:
        raise LiftError(
            f"the text has {len(ids)} tokens, fewer than one window of {context}; "
            "use a longer text or a shorter context"
        )
    return ids[: len(ids) // context * context].reshape(-1, context)


def perplexity(
    model: nn.Module,
    windows: torch.Tensor,
    batch: int = 4,
    on_progress: Callable[[int], None] | None = None,
) -> Perplexity:
    """Perplexity over windows, each predicted from its own tokens only.

    Args:
        model: a transformers causal language model.
        windows: int64 ``(windows, context)``.
        batch: windows per forward pass; changes nothing beyond rounding.
        on_progress: called with the number of windows finished since the last call.

    Raises:
        LiftError: a likelihood is NaN or infinite.
    """
    losses = []
    with torch.inference_mode():
        for part in torch.split(windows, batch):
            logits = model(part).logits[:, :-1].float()
            wanted = part[:, 1:]
            nll = nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
            losses.append(nll.double().mean(dim=1))
            if on_progress:
                on_progress(len(part))
    means = torch.cat(losses)
    if not bool(torch.isfinite(means).all()):
        raise LiftError("the model's output holds NaN or infinity; are its weights sound?")
    value = math.exp(means.mean().item())
    spread = means.std(unbiased=True).item() if len(means) > 1 else math.nan
    count, context = windows.shape
    return Perplexity(
        value=value,
        standard_error=value * spread / count**0.5,
        predicted=count * (context - 1),
        windows=count,
        context=context,
    )
