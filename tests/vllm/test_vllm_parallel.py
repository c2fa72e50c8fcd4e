"""Two ranks say what one says, with one digit per activation: only whole outputs are divided."""

from pathlib import Path

import pytest

from tests.vllm.asking import Asking
from tests.vllm.models import PROMPTS, TOKENS, write_checkpoint


# heads divided and a bias; one head of k and v, which both ranks hold; q, k and v in one matrix
@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3"])
def test_two_ranks_generate_what_one_does(family: str, asking: Asking, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, family)
    one = asking(folder, PROMPTS, TOKENS, skip_tokenizer_init=True)
    two = asking(folder, PROMPTS, TOKENS, skip_tokenizer_init=True, ranks=2)
    assert two["tokens"] == one["tokens"]
