# amaranth: UnusedElaboratable=no
"""Sums by decision diagrams: the specification is the oracle's, and every fault is found."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.code import LiftCode
from algo.decode import decode_bits
from algo.errors import LiftError
from hw.formal_arithmetic import (
    make_manager,
    prove_projection,
    specified_value,
    specified_weight,
)
from hw.geometry import Geometry
from hw.netlist import map_verilog
from hw.prove import decoder_verilog
from tests.cases import SHAPES, least_groups, random_code


def oracle(code, window):
    """The d weights of one window, by `algo`."""
    bits = np.zeros((1, (least_groups(code) + 1) * code.lifted), np.uint8)
    for j in range(code.lifted + code.overlap):
        bits[0, j] = window >> j & 1
    return decode_bits(bits, code)[0, : code.group].tolist()


def two_complement(value):
    return value - (value >> 11 << 12)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 9), st.data())
def test_specification_is_the_oracle(shape, seed, data):
    code = random_code(*shape, seed=seed)
    span = code.lifted + code.overlap
    ones = (1 << span) - 1
    window = data.draw(st.one_of(st.just(0), st.just(ones), st.integers(0, ones)))
    row = data.draw(st.integers(0, code.group - 1))
    expected = oracle(code, window)[row]
    assert specified_value(window, code, row) == expected
    if span > 16:
        return
    manager = make_manager()
    manager.declare(*(f"w{j}" for j in range(span)))
    vector = specified_weight(manager, [manager.var(f"w{j}") for j in range(span)], code, row)
    chosen = {f"w{j}": bool(window >> j & 1) for j in range(span)}
    got = sum((manager.let(chosen, bit) == manager.true) << n for n, bit in enumerate(vector))
    assert two_complement(got) == expected


def mapped(code, lanes=1):
    geometry = Geometry(code, least_groups(code) + 3, lanes)
    netlist = map_verilog(decoder_verilog(geometry))
    return netlist, netlist.signal("projection.i__payload"), netlist.outputs["o__payload"]


@pytest.mark.parametrize(
    ("shape", "lanes"),
    [((16, 8, 0, 0), 1), ((3, 2, 0, 0), 3), ((1, 1, 0, 0), 2), ((2, 1, 10, 4), 2),
     ((12, 5, 9, 0), 1), ((3, 1, 9, 3), 1)],
)  # fmt: skip
def test_decoders_are_proved(shape, lanes):
    code = random_code(*shape)
    netlist, window, payload = mapped(code, lanes)
    refutation, nodes = prove_projection(netlist, code, lanes, window, payload)
    assert refutation is None
    assert nodes > 0


def changed(code, row, column, by):
    taps = code.taps.copy()
    taps[row, column] += by
    return LiftCode(
        code.lifted, code.group, code.overlap, code.shifts, taps, code.exponent, code.parities
    )


@pytest.mark.parametrize(
    ("shape", "row", "column", "by"),
    [
        ((3, 2, 0, 0), 1, 2, 1),  # the smallest change there is
        ((2, 1, 6, 0), 0, 0, -1),
        ((2, 1, 6, 2), 0, 8, 3),  # of a parity's tap
        ((2, 1, 6, 0), 0, 7, 64),
    ],
)
def test_one_changed_tap_is_refuted_with_a_window(shape, row, column, by):
    code = random_code(*shape)
    built = changed(code, row, column, by)
    netlist, window, payload = mapped(built)
    refutation, _ = prove_projection(netlist, code, 1, window, payload)
    assert refutation is not None
    assert (refutation.lane, refutation.weight) == (0, row)
    assert refutation.expected == oracle(code, refutation.window)[row]
    assert refutation.got == oracle(built, refutation.window)[row]
    assert refutation.expected != refutation.got
    assert f"expected {refutation.expected}, got {refutation.got}" in refutation.describe(
        len(window)
    )


def test_the_wrong_lane_is_named():
    code = random_code(2, 1, 6)
    netlist, window, payload = mapped(code, 3)
    swapped = payload[12:24] + payload[:12] + payload[24:]
    refutation, _ = prove_projection(netlist, code, 3, window, payload)
    assert refutation is None
    with pytest.raises(LiftError, match=r"decides an output and is no bit of the window"):
        prove_projection(netlist, code, 3, window, swapped)


def test_swapped_window_bits_are_refuted():
    code = random_code(2, 1, 6)
    netlist, window, payload = mapped(code)
    for one, other in ((0, 1), (3, 7)):
        swapped = list(window)
        swapped[one], swapped[other] = window[other], window[one]
        refutation, _ = prove_projection(netlist, code, 1, swapped, payload)
        assert refutation is not None


def test_inverted_parity_is_refuted():
    code = random_code(2, 1, 6, 1)
    mask = code.parities[0]
    other = mask ^ (1 << (~mask & -~mask).bit_length() - 1)  # one member more
    built = LiftCode(2, 1, 6, code.shifts, code.taps, 6, (other,))
    netlist, window, payload = mapped(built)
    refutation, _ = prove_projection(netlist, code, 1, window, payload)
    assert refutation is not None
    assert refutation.expected == oracle(code, refutation.window)[0]


def test_a_cut_through_one_net_twice_is_refused():
    code = random_code(2, 1, 6)
    netlist, window, payload = mapped(code)
    with pytest.raises(LiftError, match="share a net or one is constant"):
        prove_projection(netlist, code, 1, (window[0], *window[:-1]), payload)


def test_undefined_nets_may_not_decide():
    code = LiftCode(1, 1, 0, (1,), np.array([[1]], np.int8), 0)
    netlist, window, payload = mapped(code)
    assert prove_projection(netlist, code, 1, window, payload)[0] is None
    # the sum of one tap of 1 is 1 or -1: every bit but the lowest is the inverse of the window's
    free = max(netlist.gates) + 1000
    loose = replace(netlist, undefined=netlist.undefined | {free})
    refutation, _ = prove_projection(loose, code, 1, window, (*payload[:-1], free))
    assert refutation is not None
    assert refutation.got != refutation.expected
