import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.decode import decode_bits
from sim.fault_effects import flip_effect, holders, in_flight, window_places
from tests.cases import SHAPES, least_groups, random_code

CASES = st.tuples(st.sampled_from(SHAPES), st.integers(0, 3), st.integers(0, 2**32 - 1))


def decoded(bits, code):
    return decode_bits(bits[None], code)[0].astype(np.int64)


@settings(deadline=None, max_examples=60)
@given(case=CASES, fill=st.sampled_from([None, 0, 1]), data=st.data())
def test_a_flipped_bit_does_what_the_oracle_says(case, fill, data):
    shape, extra, seed = case
    code = random_code(*shape, seed=seed % 50)
    groups = least_groups(code) + extra
    bits = np.random.default_rng(seed).integers(0, 2, groups * code.lifted).astype(np.uint8)
    if fill is not None:
        bits[:] = fill
    at = data.draw(st.integers(0, len(bits) - 1))
    flipped = bits.copy()
    flipped[at] ^= 1
    effect = flip_effect(code, bits, at)
    assert (decoded(flipped, code) - decoded(bits, code) == effect).all()
    assert (effect[~holders(code, groups, at)] == 0).all()


def test_without_parities_a_bit_is_worth_twice_its_taps():
    code = random_code(12, 5, 9)
    bits = np.ones(8 * 12, np.uint8)
    effect = flip_effect(code, bits, 3)  # in the windows of groups 0, and 7 round the end
    expected = np.zeros(8 * 5, np.int64)
    expected[:5] = -2 * code.taps[:, 3].astype(int)
    expected[35:] = -2 * code.taps[:, 15].astype(int)
    assert (effect == expected).all()


@settings(deadline=None, max_examples=20)
@given(case=CASES)
def test_each_weight_has_its_window_and_no_more(case):
    shape, extra, _ = case
    code = random_code(*shape)
    groups = least_groups(code) + extra
    held = np.stack([holders(code, groups, at) for at in range(groups * code.lifted)])
    assert (held.sum(axis=0) == code.window).all()
    assert window_places(code, groups).shape == (groups * code.group, code.window)


def test_what_is_in_flight_is_neither_given_nor_to_come():
    code = random_code(2, 1, 6)  # windows of 8 bits, 2 a step
    flags = in_flight(code, groups=6, streams=3, given=8, brought=17)
    expected = np.zeros((3, 6), np.bool_)
    expected[1, 2:] = True  # weights 8 to 11 begin at bits 16, 18, 20, 22, the last three wrapped
    expected[1] &= [False, False, True, True, True, True]
    # of the second stream bits 12 to 16 are there: weights 0 to 2, and 3 to 5 wrap to its bit 0
    assert (flags == expected).all()
