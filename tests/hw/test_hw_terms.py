import numpy as np
import pytest

from algo.code import LiftCode, block_shifts
from algo.decode import decode_bits
from algo.geometry import cell_triples
from hw.architecture import parse_architecture
from hw.terms import projection_stages, reads_parities, stepped_terms, weight_terms
from tests.cases import SHAPES, random_code


def evaluate(terms, bits):
    total = 0
    for table in terms.tables:
        assert len(table.values) == 1 << len(table.features)
        assert len(set(table.features)) == len(table.features)
        at = sum(
            (sum(int(bits[j]) for j in members) & 1) << n
            for n, members in enumerate(table.features)
        )
        total += table.values[at]
    return 2 * total + terms.odd


@pytest.mark.parametrize("inputs", range(1, 7))
@pytest.mark.parametrize("shape", SHAPES)
def test_tables_sum_to_the_oracle(shape, inputs):
    code = random_code(*shape)
    lifted, group, overlap, _ = shape
    groups = overlap // lifted + 2
    bits = np.random.default_rng(1).integers(0, 2, (50, groups * lifted)).astype(np.uint8)
    accs = decode_bits(bits, code)
    for i, terms in enumerate(weight_terms(code, inputs)):
        assert all(len(table.features) <= inputs for table in terms.tables)
        assert [evaluate(terms, row) for row in bits] == accs[:, i].tolist()
        assert len(accs[:, i]) == 50
    assert group == len(weight_terms(code, inputs))


@pytest.mark.parametrize(("window", "cells"), [(8, 2), (12, 3), (16, 4), (9, 3), (7, 1)])
def test_a_cell_of_parities_is_one_table(window, cells):
    masks = cell_triples(window, cells)
    rng = np.random.default_rng(window)
    taps = rng.integers(1, 60, (1, window + len(masks))).astype(np.int8)
    code = LiftCode(2, 1, window - 2, (2,), taps, 0, masks)
    inputs = -(-window // cells)
    (terms,) = weight_terms(code, inputs)
    read = {tuple(bit for (bit,) in table.features) for table in terms.tables}
    assert read == {tuple(range(cell, window, cells)) for cell in range(cells)}
    assert not reads_parities(code, inputs)
    bits = rng.integers(0, 2, (100, window + window % 2)).astype(np.uint8)
    assert [evaluate(terms, row) for row in bits] == decode_bits(bits, code)[:, 0].tolist()


def test_tables_take_in_parities_of_groups_wider_than_a_machine_word():
    code = random_code(80, 10, 4, parities=5)
    bits = np.random.default_rng(3).integers(0, 2, (20, 160)).astype(np.uint8)
    accs = decode_bits(bits, code)
    for i, terms in enumerate(weight_terms(code)):
        assert [evaluate(terms, row) for row in bits] == accs[:, i].tolist()


def test_a_parity_that_no_table_takes_in_indexes_one():
    # five bits: no table of four takes it in; of six, one does
    code = LiftCode(1, 1, 7, (1,), np.arange(1, 10, dtype=np.int8)[None], 0, (0b11111,))
    assert reads_parities(code, 4)
    assert not reads_parities(code, 6)
    assert projection_stages(code) == 1 + 1 + 2
    assert projection_stages(code, parse_architecture("tables:6")) == 1 + 1


@pytest.mark.parametrize(("inputs", "cycles"), [(1, 3), (2, 4), (4, 2), (3, 31)])
@pytest.mark.parametrize("shape", SHAPES)
def test_steps_sum_to_the_oracle(shape, inputs, cycles):
    code = random_code(*shape)
    groups = code.overlap // code.lifted + 2
    bits = np.random.default_rng(2).integers(0, 2, (20, groups * code.lifted)).astype(np.uint8)
    bits[0], bits[1] = 0, 1
    accs = decode_bits(bits, code)
    each, also = -(-code.window // cycles), -(-len(code.parities) // cycles)
    for i, terms in enumerate(stepped_terms(code, inputs, cycles)):
        start = code.starts[i]
        for row, acc in zip(bits, accs[:, i], strict=True):
            window = row[start : start + code.window].tolist()
            xors = [
                sum(window[j] for j in range(code.window) if mask >> j & 1) % 2
                for mask in code.parities
            ]
            total = 0
            for s in range(cycles):
                # what lies beyond must not matter: ones here
                step = (window[s * each :] + [1] * each)[:each] + (xors[s * also :] + [1] * also)[
                    :also
                ]
                for leaf in terms.tables:
                    read = step[leaf.first : leaf.first + leaf.inputs]
                    total += leaf.values[s][sum(bit << n for n, bit in enumerate(read))]
            assert terms.low <= total <= terms.high
            assert 2 * total + terms.odd == acc


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


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("tables:4", 1 + 1 + 3),  # 24 features: 6 tables
        ("tables:6", 1 + 1 + 2),
        ("tables:2,levels=2", 1 + 1 + 2),  # 12 tables: 4 levels in two ranks
        ("tables:4,levels=9", 1 + 1 + 1),
        ("tree", 1 + 5),
        ("tree,levels=2", 1 + 3),
        ("shared:5", 1 + 5 + 2 + 1),  # 4 bits and 2 parities a step: 3 tables
    ],
)
def test_stages_of_every_architecture(text, stages):
    code = random_code(8, 1, 8, parities=8, seed=1)
    assert len(weight_terms(code, 1)[0].tables) == 24 - (code.taps == 0).sum()
    assert projection_stages(code, parse_architecture(text)) == stages


def test_a_tree_has_a_register_where_it_has_no_adder():
    assert projection_stages(random_code(1, 1), parse_architecture("tree")) == 1
