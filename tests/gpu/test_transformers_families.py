"""What transformers loads of each family computes the reference's logits, bit for bit."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import liftquant  # noqa: F401
from algo.model import load_quantised
from gpu.transformers_layers import ServedLinear
from tests.gpu.tiny_checkpoints import FAMILIES, prompt, write_checkpoint


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_greedy_tokens_are_the_reference_s(family: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, family)
    reference = load_quantised(checkpoint, digits=1)
    model = AutoModelForCausalLM.from_pretrained(checkpoint.folder)
    layers = {name for name, m in model.named_modules() if isinstance(m, ServedLinear)}
    assert layers == set(checkpoint.manifest.layers)
    tokens = prompt(seed=3)
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, reference(tokens).logits)
    told = {"max_new_tokens": 4, "do_sample": False}
    ours = model.generate(tokens, attention_mask=torch.ones_like(tokens), **told)
    theirs = reference.generate(tokens, attention_mask=torch.ones_like(tokens), **told)
    assert torch.equal(ours, theirs)
    assert ours.shape[1] > tokens.shape[1]
