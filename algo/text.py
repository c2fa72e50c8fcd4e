"""English text that every Python ships: one part to evaluate on, another to calibrate with.

Both come from the help topics of the standard library. They share no paragraph: topics quote each
other, so paragraphs of the first part are taken out of the second, and repetitions dropped.
"""

from functools import cache

_EVALUATION_CHARS = 70_000  # about 16,500 tokens of a usual vocabulary


def _paragraphs(text: str) -> list[str]:
    return [part for part in text.split("\n\n") if part.strip()]


def _words(paragraph: str) -> str:
    """A paragraph without its layout, which differs where topics quote each other."""
    return " ".join(paragraph.split())


def _all_topics() -> str:
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


@cache
def evaluation_text() -> str:
    """The first help topics, in alphabetical order, up to 70,000 characters."""
    text = _all_topics()
    return text[: text.index("\n\n", _EVALUATION_CHARS)]


@cache
def calibration_text() -> str:
    """What follows `evaluation_text`, without the paragraphs it shares with it or repeats."""
    first = evaluation_text()
    seen = {_words(part) for part in _paragraphs(first)}
    kept = []
    for part in _paragraphs(_all_topics()[len(first) :]):
        words = _words(part)
        if words not in seen:
            seen.add(words)
            kept.append(part)
    return "\n\n".join(kept)
