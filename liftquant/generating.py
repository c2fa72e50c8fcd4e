"""Text from a model and a prompt, shown while it is made."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.generation.streamers import BaseStreamer

from algo.errors import LiftError
from liftquant.text_pieces import TextPieces

_TEMPERATURES = (0.01, 100.0)  # outside of them logits over- or underflow, and say nothing


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: at most so many.
        temperature: 0 for the likeliest token every time.
        top_p: draw from the likeliest tokens that together have this probability.
        top_k: draw from so many of the likeliest tokens; 0 for all.
        seed: of the draws; None takes one at random.

    Raises:
        LiftError: a value is out of range.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        low, high = _TEMPERATURES
        if self.temperature != 0 and not low <= self.temperature <= high:
            raise LiftError(
                f"--temperature {self.temperature:g}: 0 takes the likeliest token every time, "
                f"otherwise it is a number from {low:g} to {high:g}"
            )
        if not 0 < self.top_p <= 1:
            raise LiftError(f"--top-p {self.top_p:g} is no probability above 0")
        if self.temperature == 0 and (self.top_p != 1 or self.top_k):
            raise LiftError("--top-p and --top-k are for drawn tokens; give --temperature, say 0.8")


@dataclass
class Generation:
    """A text as far as it was made.

    Attributes:
        text: all of it.
        tokens: chosen, the one that ends the text included.
        prompt_tokens: how many there were before.
        first_seconds: from the prompt to the first token; None if there was none.
        tokens_per_second: after the first token; None where there are fewer than two.
        stopped: ``end`` (the model ended it), ``length`` or ``interrupted``.
        seed: of the draws; None if nothing was drawn.
    """

    prompt_tokens: int
    seed: int | None
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    first_seconds: float | None = None
    tokens_per_second: float | None = None
    stopped: str = "length"


class Moments(BaseStreamer):
    """Notes the tokens that are made, and when.

    Attributes:
        tokens: without those of the prompt.
        times: in seconds, of a clock that has no beginning.
    """

    def __init__(self) -> None:
        self._prompt = True
        self.tokens: list[int] = []
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        if self._prompt:  # transformers hands out the prompt first
            self._prompt = False
            return
        for token in value.flatten().tolist():
            self.times.append(time.perf_counter())
            self.tokens.append(token)
            self.made(token)

    def made(self, token: int) -> None:
        """Called with every token."""

    def end(self) -> None:
        """Called by transformers at the end, unless it is an error."""


class _Stream(Moments):
    """Hands out the text, too."""

    def __init__(self, tokenizer: Any, show: Callable[[str], None]) -> None:
        super().__init__()
        self._pieces = TextPieces(tokenizer)
        self._show = show
        self.text = ""

    def made(self, token: int) -> None:
        self._out(self._pieces.add(token))

    def finish(self) -> None:
        """What was held back; however it ended."""
        self._out(self._pieces.rest())

    def _out(self, piece: str) -> None:
        if piece:
            self.text += piece
            self._show(piece)


def check_prompt(prompt: str) -> str:
    """The prompt itself.

    Raises:
        LiftError: it is empty, or no text.
    """
    if not prompt.strip():
        raise LiftError("the prompt is empty; say something in --prompt")
    check_text(prompt, "the prompt")
    return prompt


def check_text(text: str, what: str) -> None:
    """Raise LiftError, naming `what`, for bytes of a command line that are no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise LiftError(f"{what} is not UTF-8 text") from None


def prompt_tokens(
    tokenizer: Any, prompt: str, chat: bool | None = None, system: str | None = None
) -> torch.Tensor:
    """Tokens of a prompt, int64 ``(1, n)``.

    Args:
        tokenizer: of transformers.
        prompt: the user's text.
        chat: put it into the tokenizer's chat template; None does so where there is one.
        system: what the model is told before, in a chat.

    Raises:
        LiftError: a chat was asked for and there is no template, or the template refuses.
    """
    template = getattr(tokenizer, "chat_template", None)
    if chat is None:
        chat = template is not None
    if chat and template is None:
        raise LiftError("the tokenizer has no chat template; leave out --chat")
    if system is not None and not chat:
        raise LiftError("--system needs a chat, and this is none")
    if not chat:
        found: list[int] = tokenizer(prompt)["input_ids"]
    else:
        said = [] if system is None else [{"role": "system", "content": system}]
        said.append({"role": "user", "content": prompt})
        try:
            text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # templates are programs that models bring along
            raise LiftError(f"the model's chat template refuses this: {error}") from None
        found = tokenizer(text, add_special_tokens=False)["input_ids"]  # the template has them
    if not found:
        raise LiftError("the prompt has no tokens")
    return torch.tensor([found])


def room(model: Any, prompt: int) -> int | None:
    """How many tokens the model's context has left behind a prompt; None without a limit.

    Raises:
        LiftError: there is no room.
    """
    context: int | None = getattr(model.config, "max_position_embeddings", None)
    if context is None:
        return None
    if prompt >= context:
        raise LiftError(
            f"the prompt has {prompt:,} tokens, and the model's context is {context:,}; shorten it"
        )
    return context - prompt


def generate(
    model: Any,
    tokenizer: Any,
    tokens: torch.Tensor,
    sampling: Sampling,
    show: Callable[[str], None] = lambda _: None,
) -> Generation:
    """Continue a prompt until the model ends it, the limit is reached, or Ctrl-C is pressed.

    Args:
        model: of transformers.
        tokenizer: its own.
        tokens: of the prompt, ``(1, n)``.
        sampling: how tokens are chosen.
        show: called with every piece of text as soon as its characters are complete.

    Raises:
        LiftError: the prompt leaves no room.
    """
    left = room(model, tokens.shape[1])
    most = sampling.max_new_tokens if left is None else min(sampling.max_new_tokens, left)
    drawn = sampling.temperature > 0
    seed = None
    if drawn:
        seed = secrets.randbelow(2**32) if sampling.seed is None else sampling.seed
        torch.manual_seed(seed)
    ends = end_tokens(model, tokenizer)
    stream = _Stream(tokenizer, show)
    result = Generation(tokens.shape[1], seed)
    began = time.perf_counter()
    try:
        continue_tokens(
            model, tokens, stream, ends, max_new_tokens=most, do_sample=drawn,
            temperature=sampling.temperature if drawn else None,
            top_p=sampling.top_p if drawn else None, top_k=sampling.top_k if drawn else None,
        )  # fmt: skip
        if stream.tokens and stream.tokens[-1] in ends:
            result.stopped = "end"
    except KeyboardInterrupt:
        result.stopped = "interrupted"
    stream.finish()
    result.text, result.tokens = stream.text, stream.tokens
    if stream.times:
        result.first_seconds = stream.times[0] - began
    if len(stream.times) > 1:
        result.tokens_per_second = rate(stream.times)
    return result


def continue_tokens(
    model: Any, tokens: torch.Tensor, stream: BaseStreamer, ends: list[int], **settings: Any
) -> None:
    """transformers' own ``generate``, with these settings in the place of the model's."""
    import copy

    config = copy.deepcopy(model.generation_config)
    config.update(
        eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0,
        num_beams=1, num_return_sequences=1, **settings,
    )  # fmt: skip
    with torch.inference_mode():
        model.generate(
            tokens, attention_mask=torch.ones_like(tokens), generation_config=config,
            streamer=stream,
        )  # fmt: skip


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end a text: the model's, and the tokenizer's own."""
    told = getattr(model.generation_config, "eos_token_id", None)
    ends = [] if told is None else [told] if isinstance(told, int) else list(told)
    own = getattr(tokenizer, "eos_token_id", None)
    return ends if own is None or own in ends else [*ends, own]


def rate(times: list[float]) -> float:
    """Tokens per second after the first, from the moments of two or more."""
    return (len(times) - 1) / (times[-1] - times[0])
