"""Text is handed out as it is made; settings do what they say."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from algo.errors import LiftError
from liftquant.generating import Sampling, check_prompt, end_tokens, generate, prompt_tokens
from liftquant.served_model import open_served, weight_bytes
from tests.liftquant.scripted import END, byte_tokenizer, chain, write_scripted


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = write_scripted(tmp_path_factory.mktemp("scripted"), chain(">日é!", "xyz"))
    return open_served(str(folder), torch.float32, 1)


def test_pieces_are_whole_characters(scripted: tuple[Any, Any]) -> None:
    model, tokenizer = scripted
    pieces: list[str] = []
    tokens = prompt_tokens(tokenizer, ">", chat=False)
    result = generate(model, tokenizer, tokens, Sampling(), pieces.append)
    assert pieces == ["日", "é", "!"]
    assert result.text == "日é!"
    assert result.tokens == [*"日é!".encode(), END]
    assert (result.stopped, result.prompt_tokens, result.seed) == ("end", 1, None)


def test_text_is_handed_out_while_it_is_made(scripted: tuple[Any, Any]) -> None:
    """Who stops at the second piece has the tokens up to there, and no more."""
    model, tokenizer = scripted

    def stop(piece: str) -> None:
        if piece == "é":
            raise KeyboardInterrupt

    tokens = prompt_tokens(tokenizer, ">", chat=False)
    result = generate(model, tokenizer, tokens, Sampling(), stop)
    assert (result.text, result.stopped) == ("日é", "interrupted")
    assert result.tokens == [*"日é".encode()]


@pytest.mark.parametrize(("most", "text"), [(1, "\ufffd"), (3, "日"), (4, "日\ufffd"), (5, "日é")])
def test_the_limit_counts_tokens(scripted: tuple[Any, Any], most: int, text: str) -> None:
    model, tokenizer = scripted
    tokens = prompt_tokens(tokenizer, ">", chat=False)
    result = generate(model, tokenizer, tokens, Sampling(max_new_tokens=most))
    assert (result.text, result.stopped, len(result.tokens)) == (text, "length", most)
    assert result.first_seconds is not None
    assert result.first_seconds > 0
    assert (result.tokens_per_second is None) == (most == 1)


def test_the_template_is_used_where_there_is_one(scripted: tuple[Any, Any]) -> None:
    _, tokenizer = scripted
    said = {
        None: prompt_tokens(tokenizer, "xx"),
        "rules": prompt_tokens(tokenizer, "xx", system="rules"),
        "plain": prompt_tokens(tokenizer, "xx", chat=False),
        "bare": prompt_tokens(byte_tokenizer(None), "xx"),
    }
    texts = {name: tokenizer.decode(tokens[0]) for name, tokens in said.items()}
    assert texts == {
        None: "[user]xx>", "rules": "[system]rules[user]xx>", "plain": "xx", "bare": "xx",
    }  # fmt: skip


def test_what_cannot_be_a_chat_is_refused(scripted: tuple[Any, Any]) -> None:
    _, tokenizer = scripted
    with pytest.raises(LiftError, match="the tokenizer has no chat template; leave out --chat"):
        prompt_tokens(byte_tokenizer(None), "x", chat=True)
    with pytest.raises(LiftError, match="--system needs a chat"):
        prompt_tokens(tokenizer, "x", chat=False, system="rules")
    strict = byte_tokenizer("{{ raise_exception('no system role here') }}")
    with pytest.raises(LiftError, match="chat template refuses this: no system role here"):
        prompt_tokens(strict, "x", system="rules")


def test_seeds_say_what_is_drawn(scripted: tuple[Any, Any]) -> None:
    """At a temperature where all tokens are nearly alike."""
    model, tokenizer = scripted
    tokens = prompt_tokens(tokenizer, "x", chat=False)

    def drawn(seed: int | None, **settings: Any) -> list[int]:
        sampling = Sampling(20, 100.0, seed=seed, **settings)
        result = generate(model, tokenizer, tokens, sampling)
        assert result.seed is not None
        assert seed in (None, result.seed)
        return result.tokens

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(None) != drawn(None)
    # of the likeliest token alone, whatever the seed
    assert drawn(1, top_k=1) == drawn(2, top_k=1) == [*b"yz", END]
    assert drawn(1, top_p=1e-6) == drawn(2, top_p=1e-6) == [*b"yz", END]


def test_the_models_own_settings_of_draws_do_not_count(scripted: tuple[Any, Any]) -> None:
    model, tokenizer = scripted
    tokens = prompt_tokens(tokenizer, "x", chat=False)
    theirs = model.generation_config
    sampling = Sampling(20, 100.0, seed=1)
    free = generate(model, tokenizer, tokens, sampling).tokens
    try:
        theirs.do_sample, theirs.top_k, theirs.temperature, theirs.max_length = True, 1, 0.01, 3
        assert generate(model, tokenizer, tokens, sampling).tokens == free
        theirs.top_k, theirs.temperature = 50, 100.0
        assert generate(model, tokenizer, tokens, Sampling()).tokens == [*b"yz", END]
    finally:
        theirs.do_sample, theirs.top_k, theirs.temperature, theirs.max_length = False, 50, 1.0, 20


def test_text_ends_with_the_models_tokens_and_the_tokenizers(scripted: tuple[Any, Any]) -> None:
    model, tokenizer = scripted
    assert end_tokens(model, tokenizer) == [END]
    theirs = model.generation_config.eos_token_id
    try:
        model.generation_config.eos_token_id = [ord("y"), 7]
        assert end_tokens(model, tokenizer) == [ord("y"), 7, END]
        tokens = prompt_tokens(tokenizer, "x", chat=False)
        result = generate(model, tokenizer, tokens, Sampling())
        assert (result.tokens, result.stopped) == ([ord("y")], "end")
    finally:
        model.generation_config.eos_token_id = theirs


def test_a_prompt_has_to_leave_room(scripted: tuple[Any, Any]) -> None:
    model, tokenizer = scripted  # of 64 tokens
    tokens = prompt_tokens(tokenizer, "x" * 63, chat=False)
    assert generate(model, tokenizer, tokens, Sampling()).tokens == [ord("y")]
    tokens = prompt_tokens(tokenizer, "x" * 64, chat=False)
    with pytest.raises(LiftError, match="prompt has 64 tokens, and the model's context is 64"):
        generate(model, tokenizer, tokens, Sampling())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.5}, "--temperature -0.5: 0 takes the likeliest token every time"),
        ({"temperature": math.nan}, "--temperature nan: 0 takes the likeliest"),
        ({"temperature": math.inf}, "--temperature inf: 0 takes the likeliest"),
        ({"temperature": 1.0, "top_p": 0.0}, "--top-p 0 is no probability above 0"),
        ({"temperature": 1.0, "top_p": math.nan}, "--top-p nan is no probability above 0"),
        ({"top_p": 0.5}, "--top-p and --top-k are for drawn tokens; give --temperature"),
        ({"top_k": 5}, "--top-p and --top-k are for drawn tokens; give --temperature"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LiftError, match=message):
        Sampling(**settings)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("", "prompt is empty"), (" \n", "prompt is empty"), ("\udcff", "not UTF-8 text")],
)
def test_prompts_are_texts(prompt: str, message: str) -> None:
    with pytest.raises(LiftError, match=message):
        check_prompt(prompt)


def test_tied_weights_count_once(reading_llama: Path) -> None:
    model, _ = open_served(str(reading_llama), torch.bfloat16, 1)
    tied = model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert tied
    own = sum(p.nbytes for p in model.parameters())  # lists a tied one once
    assert weight_bytes(model) == own + sum(b.nbytes for b in model.buffers())
