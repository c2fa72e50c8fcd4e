import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.allocate import allocate, uniform_bits
from algo.code import LiftCode
from algo.errors import LiftError
from algo.footprint import word_bytes
from algo.matrix import AXES, Axis, quantise_matrix
from algo.sensitivity import InputGroup
from algo.shipped import ShippedCode
from tests.algo.test_tunable import gaussian
from tests.conftest import CODES, random_code


def shipped(code: LiftCode, mse: float) -> ShippedCode:
    return ShippedCode(code, {"mse": {"value": mse}})


# the errors of good codes at these rates; one of them is not worth its rate
OFFERED = [
    shipped(random_code(3, 2, 6), 0.15),
    shipped(random_code(2, 1, 6), 0.08),
    shipped(random_code(5, 2, 6), 0.075),
    shipped(random_code(3, 1, 6), 0.02),
]
SIZES = st.tuples(st.integers(40, 200), st.integers(40, 200))
GROUPS = st.lists(st.tuples(SIZES, st.floats(1e-3, 1e3)), min_size=1, max_size=3)
BITS = st.floats(1.5, 3.0)


def problem(
    drawn: list[tuple[tuple[int, int], float]],
) -> tuple[list[InputGroup], dict[str, tuple[int, int]]]:
    """Every second group has two layers."""
    groups, shapes = [], {}
    for i, (shape, sensitivity) in enumerate(drawn):
        names = tuple(f"{i}.{leaf}" for leaf in "ab"[: 1 + i % 2])
        groups.append(InputGroup(names, sensitivity))
        shapes |= dict.fromkeys(names, shape)
    return groups, shapes


def spent(shapes: dict[str, tuple[int, int]], codes: dict[str, LiftCode], axis: Axis) -> int:
    return sum(8 * word_bytes(shapes[name], code, axis) for name, code in codes.items())


MSE = {offer.code: offer.mse for offer in OFFERED}


def loss(groups: list[InputGroup], codes: dict[str, LiftCode]) -> float:
    return sum(group.sensitivity * MSE[codes[group.layers[0]]] for group in groups)


@pytest.mark.parametrize("axis", AXES)
def test_stored_bits_are_those_of_the_words(code: LiftCode, axis: Axis) -> None:
    matrix = quantise_matrix(gaussian(20, 31), code, axis)
    assert 8 * word_bytes((20, 31), code, axis) == matrix.words.size * 32


@given(drawn=GROUPS, bits=BITS, axis=st.sampled_from(AXES))
def test_budget_is_kept_and_every_layer_served(
    drawn: list[tuple[tuple[int, int], float]], bits: float, axis: Axis
) -> None:
    groups, shapes = problem(drawn)
    codes = allocate(groups, shapes, OFFERED, axis, bits)
    assert set(codes) == set(shapes)
    assert spent(shapes, codes, axis) <= uniform_bits(shapes, OFFERED, axis, bits)
    for group in groups:
        assert len({codes[layer] for layer in group.layers}) == 1


@given(drawn=GROUPS, bits=BITS, axis=st.sampled_from(AXES))
def test_loss_is_within_one_step_of_the_best(
    drawn: list[tuple[tuple[int, int], float]], bits: float, axis: Axis
) -> None:
    groups, shapes = problem(drawn)
    budget = uniform_bits(shapes, OFFERED, axis, bits)
    best = np.inf
    for choice in itertools.product([offer.code for offer in OFFERED], repeat=len(groups)):
        codes = {n: c for group, c in zip(groups, choice, strict=True) for n in group.layers}
        if spent(shapes, codes, axis) <= budget:
            best = min(best, loss(groups, codes))
    made = allocate(groups, shapes, OFFERED, axis, bits)
    # what the best may have more is one step in a group, the first that was too much
    step = max(next_step(group, shapes, made, axis) for group in groups)
    assert best * (1 - 1e-9) <= loss(groups, made) <= (best + step) * (1 + 1e-9)


def next_step(
    group: InputGroup, shapes: dict[str, tuple[int, int]], codes: dict[str, LiftCode], axis: Axis
) -> float:
    """Loss that the best code above a group's own would save, per bit, times its bits."""

    def bits(code: LiftCode) -> int:
        return sum(8 * word_bytes(shapes[layer], code, axis) for layer in group.layers)

    own = codes[group.layers[0]]
    steps = [(MSE[own] - o.mse, bits(o.code) - bits(own)) for o in OFFERED]
    upwards = [step for step in steps if step[1] > 0 and step[0] > 0]
    return group.sensitivity * max(upwards, key=lambda s: s[0] / s[1], default=(0.0, 1))[0]


def test_code_off_the_convex_hull_is_not_taken() -> None:
    groups, shapes = problem([((64, 64), 1.0)] * 3)
    for bits in np.linspace(1.5, 3, 13):
        rates = {c.rate for c in allocate(groups, shapes, OFFERED, "out", float(bits)).values()}
        assert 2.5 not in rates


@given(
    sizes=st.lists(st.sampled_from([(64, 96), (96, 64), (192, 64)]), min_size=1, max_size=6),
    offer=st.sampled_from([OFFERED[0], OFFERED[1], OFFERED[3]]),
)
def test_layers_that_suffer_alike_per_weight_get_one_rate(
    sizes: list[tuple[int, int]], offer: ShippedCode
) -> None:
    """Streams of 64, 96 and 192 weights fill whole words at all of these rates."""
    groups, shapes = problem([(size, size[0] * size[1] * 0.5) for size in sizes])
    groups = [InputGroup(g.layers, g.sensitivity * len(g.layers)) for g in groups]
    codes = allocate(groups, shapes, OFFERED, "out", offer.code.rate)
    assert set(codes.values()) == {offer.code}


@given(factors=st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=6), bits=BITS)
def test_layer_that_suffers_more_never_gets_fewer_bits(factors: list[float], bits: float) -> None:
    groups, shapes = problem([((70, 90), factor) for factor in factors])
    groups = [InputGroup(g.layers[:1], g.sensitivity) for g in groups]
    shapes = {g.layers[0]: (70, 90) for g in groups}
    codes = allocate(groups, shapes, OFFERED, "out", bits)
    by_need = sorted(groups, key=lambda group: group.sensitivity)
    rates = [codes[group.layers[0]].rate for group in by_need]
    for (low, a), (high, b) in itertools.pairwise(zip(by_need, rates, strict=True)):
        assert a <= b or low.sensitivity == high.sensitivity


def test_layers_that_do_not_matter_get_the_fewest_bits() -> None:
    groups, shapes = problem([((64, 64), 0.0), ((64, 64), 1.0)])
    codes = allocate(groups, shapes, OFFERED, "in", 2.0)
    assert codes["0.a"].rate == 1.5
    assert codes["1.a"].rate == 2.0


def test_what_is_left_goes_to_a_group_that_it_is_enough_for() -> None:
    """The large group comes first but its step does not fit; those of the small one do."""
    groups, shapes = problem([((320, 320), 1e4), ((32, 32), 1.0)])
    shapes["1.b"] = shapes["1.a"] = (32, 32)
    codes = allocate(groups, shapes, OFFERED, "in", 1.6)
    assert codes["0.a"].rate == 1.5
    assert codes["1.a"].rate == 3.0


def test_best_of_the_codes_of_one_rate_is_taken() -> None:
    better = shipped(random_code(2, 1, 6, seed=7), 0.07)
    groups, shapes = problem([((64, 64), 1.0)])
    codes = allocate(groups, shapes, [*OFFERED, better], "out", 2.0)
    assert codes["0.a"] == better.code


def test_uniform_bits_between_two_rates_are_in_proportion() -> None:
    _, shapes = problem([((64, 64), 1.0)])
    words = {o.code.rate: 8 * word_bytes((64, 64), o.code, "in") for o in OFFERED}
    assert uniform_bits(shapes, OFFERED, "in", 2.0) == words[2.0]
    assert uniform_bits(shapes, OFFERED, "in", 2.25) == (words[2.0] + words[2.5]) / 2


@pytest.mark.parametrize("bits", [1.49, 3.01, 0.0])
def test_rates_out_of_reach_are_refused(bits: float) -> None:
    groups, shapes = problem([((64, 64), 1.0)])
    with pytest.raises(LiftError, match=f"{bits:g} bits per weight are outside .* 1.5 to 3"):
        allocate(groups, shapes, OFFERED, "out", bits)


def test_streams_too_short_for_a_code_are_refused() -> None:
    with pytest.raises(LiftError, match="3 weights is too narrow for LQ-12/5"):
        8 * word_bytes((3, 40), CODES["LQ-12/5+9"], "out")


def test_layer_too_narrow_for_a_code_on_offer_is_named() -> None:
    groups, shapes = problem([((64, 64), 1.0), ((3, 64), 1.0)])
    narrow = [*OFFERED, shipped(CODES["LQ-12/5+9"], 0.04)]
    with pytest.raises(LiftError, match=r"layer 1.a \(3x64\): a stream of 3 weights is too narrow"):
        allocate(groups, shapes, narrow, "out", 2.0)
