"""Perplexity of a causal language model, and how far it is from another: KL divergence, top-1.

A text is cut into windows of `context` tokens that advance by `stride` tokens. With the default,
`stride = context`, they do not overlap and the first token of each is not predicted. With a smaller
stride a window counts only the tokens that no earlier window held, so every token but the text's
first is predicted once, and from at least `context - stride` tokens before it (those of the first
window from as many as there are).
"""

import hashlib
import math
from collections.abc import Callable, Iterator
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
        standard_error: of `value`, from the spread between windows; NaN with one window.
        predicted: tokens predicted.
        windows, context: how many windows of how many tokens.
    """

    value: float
    standard_error: float
    predicted: int
    windows: int
    context: int


@dataclass(frozen=True)
class Divergence:
    """How far a model is from a reference, on the same tokens.

    Attributes:
        kl: mean of KL(reference || model) over the predicted tokens, in nats per token.
        standard_error: of `kl`, from the spread between windows; NaN with one window.
        top1: fraction of tokens for which both rank the same token first.
        top1_error: its standard error.
        reference, model: perplexity of the two, from the same forward passes.
    """

    kl: float
    standard_error: float
    top1: float
    top1_error: float
    reference: Perplexity
    model: Perplexity


def _check_stride(context: int, stride: int) -> None:
    if not 1 <= stride <= context:
        raise LiftError(
            f"a stride of {stride} tokens does not fit windows of {context}; use 1 to {context}"
        )


def windows_digest(windows: torch.Tensor) -> str:
    """Hex SHA-256 of tokens and their shape: what resumed runs compare."""
    return hashlib.sha256(
        f"{tuple(windows.shape)}".encode() + windows.numpy().tobytes()
    ).hexdigest()


def token_windows(
    text: str, tokenizer: Any, context: int, limit: int | None, stride: int | None = None
) -> torch.Tensor:
    """int64 ``(windows, context)``: the text cut into windows, what is left over dropped.

    Args:
        text: any text.
        tokenizer: a transformers tokenizer.
        context: tokens per window.
        limit: read at most so many tokens of the text; None for all.
        stride: tokens by which windows advance; `context` by default, so that none overlap.

    Raises:
        LiftError: the text does not fill one window, or the stride does not fit.
    """
    if context < 2:
        raise LiftError(f"a context of {context} tokens predicts nothing; use 2 or more")
    step = context if stride is None else stride
    _check_stride(context, step)
    # the tokenizer warns of a text longer than the model's context, which it is cut to below
    ids = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    ids = ids[:limit]
    if len(ids) < context:
        raise LiftError(
            f"the text has {len(ids)} tokens, fewer than one window of {context}; "
            "use a longer text or a shorter context"
        )
    return ids.unfold(0, context, step).contiguous()


def _counted(window: int, context: int, stride: int) -> slice:
    """Positions of a window's logits that count: those whose next token no earlier window held."""
    return slice(0 if window == 0 else max(0, context - stride - 1), context - 1)


def _forward(
    models: tuple[nn.Module, ...], windows: torch.Tensor, batch: int, stride: int
) -> Iterator[tuple[list[torch.Tensor], torch.Tensor]]:
    """Per window: every model's float32 logits ``(counted, vocabulary)``, the tokens wanted."""
    for first in range(0, len(windows), batch):
        part = windows[first : first + batch]
        outputs = [model(part).logits for model in models]
        for i in range(len(part)):
            counted = _counted(first + i, windows.shape[1], stride)
            wanted = part[i, counted.start + 1 : counted.stop + 1]
            yield [logits[i, counted].float() for logits in outputs], wanted


class _Means:
    """The mean over all tokens of what is summed window by window, with its standard error.

    Windows may count different numbers of tokens: the error is that of a ratio of sums.
    """

    def __init__(self) -> None:
        self.sums: list[float] = []
        self.counts: list[int] = []

    def add(self, values: torch.Tensor) -> None:
        """Take in one window's values.

        Raises:
            LiftError: one is NaN or infinite.
        """
        total = values.double().sum().item()
        if not math.isfinite(total):
            raise LiftError("the model's output holds NaN or infinity; are its weights sound?")
        self.sums.append(total)
        self.counts.append(values.numel())

    @property
    def mean(self) -> float:
        return math.fsum(self.sums) / sum(self.counts)

    @property
    def error(self) -> float:
        n, mean = len(self.sums), self.mean
        if n < 2:
            return math.nan
        square = math.fsum((s - c * mean) ** 2 for s, c in zip(self.sums, self.counts, strict=True))
        return math.sqrt(square * n / (n - 1)) / sum(self.counts)

    def perplexity(self, context: int) -> Perplexity:
        """The perplexity, if what was summed is the negative log-likelihood.

        Raises:
            LiftError: it is too large for a float.
        """
        try:
            value = math.exp(self.mean)
        except OverflowError:
            raise LiftError(
                f"the mean negative log-likelihood is {self.mean:.3g} nats, no perplexity can be "
                "given; are the model's weights sound?"
            ) from None
        return Perplexity(
            value=value,
            standard_error=value * self.error,
            predicted=sum(self.counts),
            windows=len(self.counts),
            context=context,
        )


def perplexity(
    model: nn.Module,
    windows: torch.Tensor,
    batch: int = 4,
    on_progress: Callable[[int], None] | None = None,
    stride: int | None = None,
) -> Perplexity:
    """Perplexity over windows, each predicted from its own tokens only.

    Args:
        model: a transformers causal language model.
        windows: int64 ``(windows, context)`` of `token_windows`.
        batch: windows per forward pass; changes nothing beyond rounding.
        on_progress: called with the number of windows finished since the last call.
        stride: what `token_windows` was given.

    Raises:
        LiftError: a likelihood is NaN or infinite.
    """
    context = windows.shape[1]
    step = context if stride is None else stride
    _check_stride(context, step)
    losses = _Means()
    with torch.inference_mode():
        for (logits,), wanted in _forward((model,), windows, batch, step):
            losses.add(nn.functional.cross_entropy(logits, wanted, reduction="none"))
            if on_progress:
                on_progress(1)
    return losses.perplexity(context)


def compare_logits(
    reference: nn.Module,
    model: nn.Module,
    windows: torch.Tensor,
    batch: int = 4,
    on_progress: Callable[[int], None] | None = None,
    stride: int | None = None,
) -> Divergence:
    """KL divergence and top-1 agreement of a model against a reference, and both perplexities.

    Both models run side by side, batch by batch: logits are never held for more than one batch.

    Args:
        reference: a transformers causal language model: the original.
        model: another of the same vocabulary.
        windows: int64 ``(windows, context)`` of `token_windows`.
        batch: windows per forward pass; changes nothing beyond rounding.
        on_progress: called with the number of windows finished since the last call.
        stride: what `token_windows` was given.

    Raises:
        LiftError: the vocabularies differ in size, or an output is NaN or infinite.
    """
    context = windows.shape[1]
    step = context if stride is None else stride
    _check_stride(context, step)
    losses = (_Means(), _Means())
    kl, agreed = _Means(), _Means()
    with torch.inference_mode():
        for (p, q), wanted in _forward((reference, model), windows, batch, step):
            if p.shape != q.shape:
                raise LiftError(
                    f"the models predict {p.shape[1]} and {q.shape[1]} tokens; only models of "
                    "one vocabulary can be compared"
                )
            agreed.add((p.argmax(1) == q.argmax(1)).float())
            log_p, log_q = p.log_softmax(1), q.log_softmax(1)
            for total, logs in zip(losses, (log_p, log_q), strict=True):
                total.add(-logs.gather(1, wanted[:, None]))
            # the same terms in another form would cancel badly where the models nearly agree
            kl.add((log_p.exp() * (log_p - log_q)).sum(1, dtype=torch.float64))
            if on_progress:
                on_progress(1)
    return Divergence(
        reference=losses[0].perplexity(context),
        model=losses[1].perplexity(context),
        kl=kl.mean,
        standard_error=kl.error,
        top1=agreed.mean,
        top1_error=agreed.error,
    )
