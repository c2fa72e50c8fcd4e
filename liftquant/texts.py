"""Calibration windows from a text that a user names on the command line."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from algo.source import Source


def calibration_windows(source: "Source", text: str, context: int, tokens: int) -> "torch.Tensor":
    """Windows of a text for calibration, int64 ``(windows, context)``.

    Args:
        source: whose tokenizer is used.
        text: as `liftquant.corpora.calibration_corpus` takes it.
        context: tokens per window.
        tokens: how many are read at most.
    """
    from algo.evaluate import token_windows
    from algo.model import source_tokenizer
    from liftquant.corpora import calibration_corpus

    corpus = calibration_corpus("--calib", text)
    return token_windows(corpus.text, source_tokenizer(source), context, tokens)
