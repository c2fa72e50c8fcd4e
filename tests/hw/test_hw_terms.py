import numpy as np
import pytest

from algo.code import LiftCode, block_shifts
from algo.decode import decode_bits
from hw.terms import projection_stages, weight_terms
from tests.cases import SHAPES, random_code


def evaluate(terms, bits):
    total = 0
    for table in terms.tables:
        assert len(table.values) == 1 << len(table.features)
        at = sum(
            (sum(int(bits[j]) for j in members) & 1) << n
            for n, members in enumerate(table.features)
        )
        total += table.values[at]
    return 2 * total + terms.odd


@pytest.mark.parametrize("shape", SHAPES)
def test_tables_sum_to_the_oracle(shape):
    code = random_code(*shape)
    lifted, group, overlap, _ = shape
    groups = overlap // lifted + 2
    bits = np.random.default_rng(1).integers(0, 2, (50, groups * lifted)).astype(np.uint8)
    accs = decode_bits(bits, code)
    for i, terms in enumerate(weight_terms(code)):
        assert [evaluate(terms, row) for row in bits] == accs[:, i].tolist()
        assert len(accs[:, i]) == 50
    assert group == len(weight_terms(code))


def test_zero_taps_cost_nothing():
    taps = np.zeros((2, 9), np.int8)
    taps[1, 4] = 3
    code = LiftCode(9, 2, 0, block_shifts(9, 2), taps, 0)
    empty, single = weight_terms(code)
    assert empty.tables == ()
    assert empty.odd == 0
    assert [table.features for table in single.tables] == [((4,),)]
    assert projection_stages(code) == 1


def test_stages_count_parities_tables_and_adder_levels():
    assert projection_stages(random_code(1, 1)) == 1
    assert projection_stages(random_code(16, 1, seed=3)) == 1 + 2
    assert projection_stages(random_code(8, 1, 8, parities=4)) == 1 + 1 + 3
