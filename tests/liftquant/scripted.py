"""A model whose text is known: every byte has one that follows it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

END = 256  # the token that ends a text; those below it are bytes
_TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}>{% endif %}"
)


def byte_tokenizer(template: str | None = _TEMPLATE) -> Any:
    """One token per byte, so that most characters take several."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE({c: b for b, c in enumerate(_byte_letters())}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", chat_template=template
    )


def _byte_letters() -> list[str]:
    """The letters that stand for bytes in byte-level vocabularies; printable ones stay."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b if b in plain else next(others)) for b in range(256)]


def write_scripted(
    folder: Path, follows: Mapping[int, int], template: str | None = _TEMPLATE
) -> Path:
    """A Llama of one block that adds nothing to its input, as a Hugging Face directory.

    Args:
        folder: where to write.
        follows: the token behind each token; `END` behind all others.
        template: of chats.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    size = END + 8
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size, hidden_size=size, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
            tie_word_embeddings=False, eos_token_id=END, bos_token_id=None, pad_token_id=END,
        )
    )  # fmt: skip
    state = model.state_dict()
    for name, tensor in state.items():
        if "_proj" in name:
            tensor.zero_()
    state["model.embed_tokens.weight"].copy_(torch.eye(size))
    state["lm_head.weight"].zero_()
    for token in range(size):
        state["lm_head.weight"][follows.get(token, END), token] = 1.0
    model.save_pretrained(folder)
    byte_tokenizer(template).save_pretrained(folder)
    return folder


def chain(*texts: str) -> dict[int, int]:
    """What follows what, so that each text's first byte brings forth the rest of it."""
    follows: dict[int, int] = {}
    for text in texts:
        data = text.encode()
        pairs = dict(zip(data, [*data[1:], END], strict=True))
        assert len(pairs) == len(data), f"{text}: a byte comes twice"
        assert not follows.keys() & pairs.keys()
        follows |= pairs
    return follows
