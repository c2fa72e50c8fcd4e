"""Text as its tokens come, in pieces of whole characters."""

from typing import Any

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"  # what tokenizers decode the start of a character to


class TextPieces:
    """Decodes a growing list of tokens piece by piece; all pieces together are the whole text.

    A character may take several tokens: nothing is given out while the text ends within one. What
    a token reads may depend on the one before it (a leading space that is dropped at the start),
    so tokens of the last piece are decoded again together with those of the next.

    Args:
        tokenizer: of transformers; special tokens are left out of the text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._shown: list[int] = []  # tokens of the piece given out last
        self._held: list[int] = []  # those since

    def add(self, token: int) -> str:
        """The characters that are complete with this token and were not before."""
        self._held.append(token)
        piece = self.rest()
        if not piece or piece.endswith(_INCOMPLETE):
            return ""
        self._shown, self._held = self._held, []
        return piece

    def rest(self) -> str:
        """What is held back; at the end of the text, a character that was cut off."""
        before = self._decoded(self._shown)
        return self._decoded(self._shown + self._held)[len(before) :]

    def _decoded(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text
