"""A tiny model that reads text, for commands that evaluate."""

import shutil
from pathlib import Path

import pytest


def add_tokenizer(folder: Path) -> None:
    """One token per ASCII character, 96 in all."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {chr(i + 32): i for i in range(95)} | {"?unknown": 95}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?unknown"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    special = dict.fromkeys(("unk_token", "bos_token", "eos_token", "pad_token"), "?unknown")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


@pytest.fixture(scope="session")
def reading_llama(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama with a tokenizer."""
    folder = Path(shutil.copytree(tiny_llama, tmp_path_factory.mktemp("reading") / "model"))
    add_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def reading_checkpoint(reading_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same at 2.4 bits, without calibration."""
    from liftquant.cli import run

    folder = tmp_path_factory.mktemp("reading") / "checkpoint"
    options = ("--bits", "2.4", "--calib", "none")
    assert run(["quantize", str(reading_llama), str(folder), *options]) == 0
    return folder
