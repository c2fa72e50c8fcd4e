"""Texts that users name on the command line: the built-in ones, or a file."""

from pathlib import Path
from typing import TYPE_CHECKING

from algo.errors import LiftError

if TYPE_CHECKING:
    import torch

    from algo.source import Source


def read_text(option: str, path: Path) -> str:
    """A UTF-8 text file.

    Raises:
        LiftError: it cannot be read; the message names the option it was given to.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LiftError(f"{option} {path} cannot be read as UTF-8 text: {error}") from None


def calibration_windows(source: "Source", text: str, context: int, tokens: int) -> "torch.Tensor":
    """Windows of a text for calibration, int64 ``(windows, context)``.

    Args:
        source: whose tokenizer is used.
        text: ``builtin``, or a file.
        context: tokens per window.
        tokens: how many are read at most.
    """
    from algo.evaluate import token_windows
    from algo.model import source_tokenizer
    from algo.text import calibration_text

    content = calibration_text() if text == "builtin" else read_text("--calib", Path(text))
    return token_windows(content, source_tokenizer(source), context, tokens)
