"""Texts to evaluate on and to calibrate with: a file, the built-in ones, or a public corpus.

Public corpora come through `datasets`: the part that is kept for tests to evaluate on, the training
part to calibrate with.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algo.errors import LiftError

_C4_DOCUMENTS = 2000  # of either split: about a million tokens, more than is ever read
BUILTIN = "builtin"


@dataclass(frozen=True)
class Corpus:
    """A text and what to call it."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def _load(*arguments: Any, **options: Any) -> Any:
    """`datasets.load_dataset`, its many errors turned into one message."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise LiftError(
            f"{arguments[0]} needs the package datasets: pip install 'liftquant[eval]' "
            "(or give a file instead)"
        ) from None
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # it tells of every retry
    try:
        return load_dataset(*arguments, **options)
    except Exception as error:  # network, hub, cache: the same to the user
        raise LiftError(
            f"the data set {arguments[0]} cannot be fetched ({type(error).__name__}); it needs the "
            "network or a filled cache: use a file of your own, or the built-in text"
        ) from error


def _wikitext2(training: bool) -> str:
    """The raw split, rows joined by blank lines, as GPTQ and most papers after it have it."""
    split = "train" if training else "test"
    rows = _load("Salesforce/wikitext", "wikitext-2-raw-v1", split=split)
    return "\n\n".join(rows["text"])


def _c4(training: bool) -> str:
    """The first documents of the split's first file, joined by blank lines."""
    split, files = ("train", 1024) if training else ("validation", 8)
    file = f"en/c4-{split}.00000-of-{files:05d}.json.gz"
    rows = _load("allenai/c4", data_files={split: file}, split=split)
    return "\n\n".join(rows["text"][:_C4_DOCUMENTS])


_CORPORA = {"wikitext2": _wikitext2, "c4": _c4}


def read_text(path: Path, option: str) -> str:
    """A UTF-8 file named by a command-line option.

    Raises:
        LiftError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LiftError(f"{option} {path} cannot be read as UTF-8 text: {error}") from None


def evaluation_corpus(text: Path | None, dataset: str | None) -> Corpus:
    """What to evaluate on: a file, a public corpus, or else the built-in text.

    Raises:
        LiftError: both are given, the file cannot be read, the corpus is unknown or out of reach.
    """
    from algo.text import evaluation_text

    if text is not None and dataset is not None:
        raise LiftError("--text and --dataset are two texts; give one of them")
    if text is not None:
        return Corpus(str(text), read_text(text, "--text"))
    if dataset is None:
        return Corpus("python help topics", evaluation_text())
    if dataset not in _CORPORA:
        raise LiftError(f"--dataset {dataset} is none of {', '.join(_CORPORA)}")
    return Corpus(dataset, _CORPORA[dataset](training=False))


def calibration_corpus(option: str, name: str) -> Corpus:
    """What to calibrate with: ``builtin``, the training part of a public corpus, or else a file.

    Args:
        option: what the name was given to, for messages.
        name: the text's.

    Raises:
        LiftError: the file cannot be read, or the corpus is out of reach.
    """
    from algo.text import calibration_text

    if name == BUILTIN:
        return Corpus("python help topics, the rest", calibration_text())
    if name in _CORPORA:
        return Corpus(f"{name}, training part", _CORPORA[name](training=True))
    return Corpus(name, read_text(Path(name), option))
