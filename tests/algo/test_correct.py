"""Correction of a block of the tiny model."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from algo.calibrated import CalibratedBlocks, Calibration, QuantisedBlock, dense_weight
from algo.correct import Correction, correct_block
from algo.packing import pack_bits, unpack_bits
from algo.source import open_source
from algo.staged import Hidden, StagedModel
from algo.whitening import random_whitening
from tests.conftest import CODES, write_tiny_llama

NAME = "model.layers.0"
WINDOWS = torch.randint(96, (6, 16), generator=torch.Generator().manual_seed(8))


class Case:
    """A block quantised coarsely, what goes in, and what should come out."""

    def __init__(self, folder: Path, code: str) -> None:
        source = open_source(str(folder))
        self.staged = StagedModel(source, WINDOWS, 4)
        self.block = copy.deepcopy(self.staged.load(NAME))
        with torch.no_grad():
            self.wanted: Hidden = [self.staged.run(NAME, self.block, x) for x in self.staged.inputs]
        blocks = CalibratedBlocks(
            self.staged, Calibration(WINDOWS), lambda n: random_whitening(n, 0)
        )
        codes = dict.fromkeys(source.linears, CODES[code])
        self.made = blocks.quantise(NAME, codes, "out", None)

    def correct(self, settings: Correction, **keywords: object) -> QuantisedBlock:
        return correct_block(
            self.staged, NAME, copy.deepcopy(self.block), self.made, self.staged.inputs,
            self.wanted, settings, **keywords,  # type: ignore[arg-type]
        )  # fmt: skip

    def loss(self, made: QuantisedBlock) -> float:
        """Of the stored form, in an ordinary block."""
        block = copy.deepcopy(self.block)
        for group in made.groups:
            for layer in group:
                module = block.get_submodule(layer.removeprefix(f"{NAME}."))
                dense = dense_weight(made.matrices[layer], made.whitenings[group[0]])
                module.weight = nn.Parameter(dense, requires_grad=False)
        with torch.no_grad():
            pairs = zip(self.staged.inputs, self.wanted, strict=True)
            return sum(
                float((self.staged.run(NAME, block, x) - y).square().mean()) for x, y in pairs
            )


@pytest.fixture(scope="module")
def case(tiny_llama: Path) -> Case:
    return Case(tiny_llama, "LQ-2/1+6^3")


def words(made: QuantisedBlock) -> dict[str, bytes]:
    return {layer: matrix.words.tobytes() for layer, matrix in made.matrices.items()}


def test_scales_are_trained_and_signs_left(case: Case) -> None:
    made = case.correct(Correction(epochs=6, rate=0.01))
    assert case.loss(made) < 0.97 * case.loss(case.made)
    assert words(made) == words(case.made)
    for layer, matrix in made.matrices.items():
        assert not torch.equal(matrix.scales, case.made.matrices[layer].scales)
    for group in made.groups:
        before, after = case.made.whitenings[group[0]], made.whitenings[group[0]]
        assert not torch.equal(after.pre, before.pre)
        assert torch.equal(after.left, before.left)
    assert (made.groups, made.errors) == (case.made.groups, case.made.errors)


def damaged(made: QuantisedBlock) -> QuantisedBlock:
    """One bit in twenty flipped: there is something for signs to learn."""
    rng, matrices = np.random.default_rng(9), {}
    for layer, matrix in made.matrices.items():
        bits = unpack_bits(matrix.words, matrix.groups * matrix.code.lifted)
        flipped = bits ^ (rng.random(bits.shape) < 0.05).astype(np.uint8)
        matrices[layer] = replace(matrix, words=pack_bits(flipped))
    return replace(made, matrices=matrices)


def test_signs_are_trained_into_other_codewords(tiny_llama: Path) -> None:
    case = Case(tiny_llama, "LQ-2/1+6^3")
    case.made = damaged(case.made)
    scales = case.correct(Correction(epochs=20, rate=0.01))
    made = case.correct(Correction(epochs=20, rate=0.01, signs=True))
    assert case.loss(made) < case.loss(scales) < case.loss(case.made)
    assert words(scales) == words(case.made)
    before = words(case.made)
    changed = [layer for layer, packed in words(made).items() if packed != before[layer]]
    assert len(changed) > 2
    for layer in changed:
        matrix = made.matrices[layer]
        assert matrix.code == case.made.matrices[layer].code
        matrix.accumulators()  # padding bits would be refused


@pytest.mark.parametrize("rate", [1e-7, 1e-5, 1e-4, 1e-3, 0.1])
def test_what_is_stored_is_never_worse(case: Case, rate: float) -> None:
    """Small steps are lost in the rounding of scales to bfloat16."""
    made = case.correct(Correction(epochs=1, rate=rate))
    assert made is case.made or case.loss(made) < case.loss(case.made)


@pytest.mark.parametrize("rate", [0.0, 20.0, 1e30])
def test_block_is_returned_as_it_was_where_training_does_not_help(case: Case, rate: float) -> None:
    assert case.correct(Correction(epochs=1, rate=rate)) is case.made


def test_every_step_is_reported(case: Case) -> None:
    steps: list[int] = []
    case.correct(Correction(epochs=3), on_step=lambda: steps.append(1))
    assert len(steps) == 3 * 2


def test_result_repeats(case: Case) -> None:
    one, two = (case.correct(Correction(epochs=2, rate=0.01, signs=True)) for _ in range(2))
    assert words(one) == words(two)
    assert all(torch.equal(m.scales, two.matrices[n].scales) for n, m in one.matrices.items())


def test_biases_stay(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m", attention_bias=True)
    biased = Case(folder, "LQ-16/8")
    bias = biased.block.self_attn.q_proj.bias
    with torch.no_grad():
        bias += 3
        biased.wanted = [biased.staged.run(NAME, biased.block, x) for x in biased.staged.inputs]
    made = biased.correct(Correction(epochs=4, rate=0.005))
    assert biased.loss(made) < biased.loss(biased.made)
