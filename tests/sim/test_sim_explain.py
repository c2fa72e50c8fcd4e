"""The sum behind a weight, and guesses at what went wrong with it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.decode import decode_bits
from sim.explain import likenesses, weight_sum
from tests.cases import SHAPES, least_groups, random_code


@given(st.sampled_from(SHAPES), st.integers(0, 5), st.integers(0, 10**6), st.integers(0, 99))
def test_terms_add_up_to_what_the_oracle_says(shape, extra, where, seed):
    code = random_code(*shape)
    groups = least_groups(code) + extra
    bits = np.random.default_rng(seed).integers(0, 2, groups * code.lifted, np.uint8)
    index = where % (groups * code.group)
    terms = weight_sum(code, bits, index)
    assert sum(term.product for term in terms) == decode_bits(bits[None], code)[0, index]
    for term in terms:
        assert [bits[place] for place in term.bits] == list(term.values)


def test_a_term_is_readable():
    code = random_code(2, 1, 10, 4)
    bits = np.arange(40, dtype=np.uint8) % 3 == 0
    terms = weight_sum(code, bits.astype(np.uint8), 3)
    tap = int(code.taps[0, 0])
    assert str(terms[0]).split() == ["b[6]=1", "+1", "*", f"{tap}", "=", f"{tap:+d}"]
    assert any("*b[" in str(term) for term in terms)


@pytest.fixture
def stream():
    code = random_code(12, 5, 9, seed=4)
    return code, np.random.default_rng(8).integers(0, 2, 48, np.uint8)


def guesses(stream, index, change):
    code, bits = stream
    weights = decode_bits(bits[None], code)[0].tolist()
    return likenesses(code, bits, index, change(weights), 10)


def test_usual_mistakes_are_recognised(stream):
    code, bits = stream
    term = weight_sum(code, bits, 7)[2]
    place = f"bit {term.bits[0]}"
    assert f"the term of {place} has the wrong sign" in guesses(
        stream, 7, lambda w: w[7] - 2 * term.product
    )
    assert f"the term of {place} is missing" in guesses(stream, 7, lambda w: w[7] - term.product)
    assert "it is what weight 9 of the stream should be" in guesses(stream, 7, lambda w: w[9])
    assert "all signs are the other way round" in guesses(stream, 7, lambda w: -w[7])
    assert guesses(stream, 7, lambda w: 5000) == []


@pytest.mark.parametrize("fill", [0, 1])
def test_windows_that_do_not_wrap_round_are_recognised(stream, fill):
    code, bits = stream
    longer = np.concatenate([bits, np.full(24, fill, np.uint8)])
    unwrapped = int(decode_bits(longer[None], code)[0, 19])
    note = f"its window goes on with {fill}s where it should wrap round"
    assert note in guesses(stream, 19, lambda _: unwrapped)
    assert note not in guesses(stream, 0, lambda _: unwrapped)
