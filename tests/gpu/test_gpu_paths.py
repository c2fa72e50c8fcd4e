"""Every path gives the same integers: the kernels under the interpreter, with overflow checked."""

import pytest
import torch

from algo.activations import integer_layer, quantise_activations
from algo.errors import LiftError
from algo.shipped import load_code
from gpu.exact_layer import exact_layer
from gpu.interpret import interpreter
from gpu.paths import PathLayer
from gpu.random_layer import random_activations, random_matrix
from gpu.tuning_table import ONE_BIT, Choice
from gpu.workload import LayerWorkload, identity_differs
from tests.cases import random_code

SEED = 17
CPU = torch.device("cpu")
# rows, columns: odd in every place
CASES = [
    ("LQ-12/5+9", (33, 41), "out", 2), ("LQ-12/5+9", (5, 67), "in", 2),
    ("LQ-24/10", (17, 36), "out", 1), ("LQ-24/8", (3, 40), "in", 1),
    ("LQ-2/1+6", (70, 3), "out", 2), ("LQ-3/1+9", (1, 97), "in", 2),
    ("LQ-2/1+10^12", (19, 23), "out", 2), ("LQ-3/2+10^12", (13, 30), "in", 1),
]  # fmt: skip


def some(candidates):
    """One of each path and split, tiles in turn."""
    chosen = {}
    for index, choice in enumerate(candidates):
        chosen.setdefault((choice.path, choice.split, index % 2), choice)
    return list(chosen.values())


@pytest.mark.parametrize(("name", "shape", "axis", "digits"), CASES)
@pytest.mark.parametrize("tokens", [1, 3])
def test_every_path_gives_the_oracles_integers(name, shape, axis, digits, tokens):
    matrix = random_matrix(shape, load_code(name), axis, SEED)
    x = random_activations(tokens, shape[1], SEED)
    x[-1] = 0 if tokens > 1 else x[-1]
    expected = integer_layer(matrix, x, digits)
    parts, step = quantise_activations(x, digits)
    with interpreter(checked=True) as run:
        layer = PathLayer(matrix, digits, CPU, run)
        choices = some(layer.candidates(tokens * layer.layer.digits))
        for choice in [*choices, *(Choice(path=path) for path in {c.path for c in choices})]:
            found = layer.product(choice, parts, step)()
            assert torch.equal(found, expected), choice
    assert ({c.path for c in choices} & set(ONE_BIT) == set()) == layer.layer.parities


# whole ranges of it are tested where it is made
@pytest.mark.parametrize(("name", "shape", "axis", "digits"), [*CASES[2:4], CASES[-1]])
def test_preparing_is_the_references(name, shape, axis, digits):
    matrix = random_matrix(shape, load_code(name), axis, SEED)
    x = random_activations(3, shape[1], SEED)
    x[1] = 0
    with interpreter(checked=False) as run:
        layer = PathLayer(matrix, digits, CPU, run)
        for choice in {c.path: c for c in layer.candidates(4)}.values():
            assert layer.preparation(choice, x).differs() is None, choice


@pytest.mark.parametrize(("name", "shape", "axis", "digits"), CASES)
def test_the_identity_is_the_weights(name, shape, axis, digits):
    matrix = random_matrix(shape, load_code(name), axis, SEED)
    with interpreter(checked=True) as run:
        layer = PathLayer(matrix, digits, CPU, run)
        for path in {c.path for c in layer.candidates(1)}:
            assert identity_differs(layer, Choice(path=path), block=64) is None, path


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("word", [0, 0xFFFFFFFF])
def test_extreme_digits_of_extreme_codes(axis, word):
    matrix = random_matrix((32, 32), random_code(16, 8), axis, SEED)
    matrix.words[:] = word  # 64 bits a stream: there is no padding
    parts = torch.full((2, 2, 32), 127, dtype=torch.int8)
    parts[0, 1] = -128
    parts[1, 1] = -127
    step = torch.tensor([1.0, 0.3])
    expected = exact_layer(matrix, parts, step)
    with interpreter(checked=True) as run:
        layer = PathLayer(matrix, 2, CPU, run)
        for choice in some(layer.candidates(2 * layer.layer.digits)):
            assert torch.equal(layer.product(choice, parts, step)(), expected), choice


def test_few_columns_take_no_wide_tiles_and_many_no_one_bit_product():
    matrix = random_matrix((64, 4096), load_code("LQ-2/1+6"), "out", SEED)
    layer = PathLayer(matrix, 1, CPU, lambda kernel: kernel)
    few = [c for c in layer.candidates(1) if c.path in ONE_BIT]
    assert {c.tile.split("x")[1] for c in few} == {"8"}
    assert {c.split for c in few} == {1, 2, 4, 8}  # 512 bytes in steps of 64 or 128
    assert {c.path for c in layer.candidates(1024)} == {"dense", "decode-dot"}
    assert len(set(layer.candidates(32))) == len(layer.candidates(32))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(path="fused", tile="1x2x3x4x5"), "there is no tile"),
        (Choice(path="fused", split=2), "does not split K"),
        (Choice(path="dense", tile="8"), "dense has no tiles"),
    ],
)
def test_choices_of_other_versions_are_refused(choice, message):
    work = random_matrix((33, 41), load_code("LQ-12/5+9"), "out", SEED)
    layer = PathLayer(work, 1, CPU, lambda kernel: kernel)
    with pytest.raises(LiftError, match=message):
        LayerWorkload(layer, 1).run(choice)


def test_parities_are_refused_by_the_one_bit_product():
    matrix = random_matrix((33, 41), load_code("LQ-2/1+10^12"), "out", SEED)
    layer = PathLayer(matrix, 1, CPU, lambda kernel: kernel)
    with pytest.raises(LiftError, match=r"does not take .* parities"):
        LayerWorkload(layer, 1).run(Choice(path="fused"))
