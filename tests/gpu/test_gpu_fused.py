"""The fused product under the interpreter, against the integer layer, bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.errors import LiftError
from algo.matrix import AXES
from algo.shipped import load_code, shipped_codes
from gpu import build, project
from gpu.bitmm import digit_planes, multiply
from gpu.fused import jobs, launch, tile_for
from gpu.fused_layout import efficiency, programs, spans_of, window_starts
from gpu.interpret import interpreter
from gpu.project import DTYPES
from gpu.stack import stack_layers
from gpu.tiles import NARROW, SINGLE, WIDE, Tile
from tests.conftest import CODES
from tests.gpu.layers import SEED, bits_of, columns, expected, layer, three

SHIPPED = sorted(n for n, s in shipped_codes().items() if not s.code.parities)
PLAIN = [n for n, code in CODES.items() if not code.parities]
SMALL = Tile(rows=32, columns=8, inner=32, warps=1, stages=1)


def fused(matrices, biases, x, digits, dtype=torch.float32, tile=SINGLE, checked=False):
    stack = stack_layers(matrices, digits, biases)
    operand, step = columns(matrices, stack, x, digits)
    if len(x):
        planes, sums = digit_planes(operand, stack.row_bytes, tile)
    else:
        planes = torch.zeros((8, 0, tile.inner), dtype=torch.int8)
        sums = torch.zeros(0, dtype=torch.int32)
    with interpreter(checked) as run:
        return launch(run, stack, programs(stack, tile), planes, sums, step, dtype, tile)


def same(matrices, biases, x, digits, dtype=torch.float32, tile=SINGLE, checked=False):
    got = fused(matrices, biases, x, digits, dtype, tile, checked)
    want = expected(matrices, x, digits, biases, dtype)
    return got.shape == want.shape and torch.equal(bits_of(got), bits_of(want))


@pytest.mark.parametrize(
    ("tokens", "tile"),
    [(0, SINGLE), (1, SINGLE), (1, SMALL), (3, SINGLE), (3, NARROW), (17, WIDE), (17, SMALL)],
)
@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize("axis", AXES)
def test_stacks_equal_the_integer_layers(axis, digits, tokens, tile):
    matrices, biases = three(axis)
    x = torch.from_numpy(np.random.default_rng([SEED, tokens]).standard_normal((tokens, 77)))
    assert same(matrices, biases, x, digits, tile=tile, checked=tokens == 3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", AXES)
def test_outputs_of_every_type(axis, dtype):
    matrices, biases = three(axis)
    x = torch.from_numpy(np.random.default_rng(SEED).standard_normal((2, 77)))
    assert same(matrices, biases, x, 2, dtype)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("axis", AXES)
def test_every_geometry(name, axis):
    rng = np.random.default_rng(SEED)
    # 32 outputs fill no tile of some codes, 67 several
    matrices = [layer(rng, CODES[name], axis, (rows, 33)) for rows in (32, 67)]
    x = torch.from_numpy(rng.standard_normal((2, 33)))
    assert same(matrices, [None, None], x, 2, tile=SMALL._replace(rows=64))


@pytest.mark.parametrize("first", range(0, len(SHIPPED), 8))
def test_every_shipped_code(first):
    """In stacks of eight codes."""
    rng = np.random.default_rng(first)
    codes = [load_code(name) for name in SHIPPED[first : first + 8]]
    matrices = [layer(rng, code, "out", (41, 33)) for code in codes]
    x = torch.from_numpy(rng.standard_normal((1, 33)))
    assert same(matrices, [None] * len(matrices), x, 2)


@pytest.mark.parametrize("axis", AXES)
def test_sums_in_memory_of_split_k_give_the_same(axis):
    matrices, biases = three(axis)
    stack = stack_layers(matrices, 2, biases)
    x = torch.from_numpy(np.random.default_rng(SEED).standard_normal((3, 77)))
    operand, step = columns(matrices, stack, x, 2)
    tile = SINGLE._replace(inner=16)
    planes, sums = digit_planes(operand, stack.row_bytes + 16, tile)
    bits = torch.nn.functional.pad(stack.words, (0, 4)).view(torch.int8)
    with interpreter(checked=False) as run:
        product = multiply(run, bits, planes, sums, operand.shape[1], tile, splits=2)
        table = project.programs(stack, project.WIDE)
        got = project.launch(run, stack, table, product, step, torch.float32, project.WIDE)
        args = (run, stack, programs(stack, tile), planes, sums, step)
        fused_too = launch(*args, torch.float32, tile)
    assert torch.equal(got, expected(matrices, x, 2, biases, torch.float32))
    assert torch.equal(got, fused_too)


@pytest.mark.parametrize("bit", [0, 1])
@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize("axis", AXES)
def test_extremes(axis, digits, bit):
    matrices, biases = three(axis, bit)
    x = torch.ones(4, 77, dtype=torch.float64)
    x[1], x[2], x[3, ::2] = -1, 0, -1
    assert same(matrices, biases, x, digits, checked=True)


@pytest.mark.parametrize("inner", [1, 257, 1536, 4099])
@pytest.mark.parametrize("rows", [3, 17])
def test_any_inner_dimension(inner, rows):
    rng = np.random.default_rng([SEED, inner])
    matrix = layer(rng, CODES["LQ-2/1+3"], "out", (rows, inner))
    x = torch.from_numpy(rng.standard_normal((1, inner)))
    assert same([matrix], [None], x, 2)


@pytest.mark.parametrize("x", [1.0, -1.0])
def test_sums_of_four_digits(x):
    matrix = layer(np.random.default_rng(SEED), CODES["LQ-16/8"], "out", (8, 70001), 1)
    stack = stack_layers([matrix], 1)
    assert programs(stack, SINGLE).split == 4
    assert same([matrix], [None], torch.full((1, 70001), x), 1, checked=True)


def test_a_projected_sum_with_its_top_digit_dropped_would_show(monkeypatch):
    matrix = layer(np.random.default_rng(SEED), CODES["LQ-16/8"], "out", (8, 300), 1)
    x = torch.ones(1, 300)
    assert same([matrix], [None], x, 1)
    monkeypatch.setattr("gpu.fused_layout.sum_digits", lambda largest: 1)
    assert not same([matrix], [None], x, 1)


def test_a_step_of_nan_gives_a_token_of_nan():
    matrices, biases = three("out")
    stack = stack_layers(matrices, 1, biases)
    x = torch.from_numpy(np.random.default_rng(SEED).standard_normal((3, 77)))
    operand, step = columns(matrices, stack, x, 1)
    step[1] = torch.nan
    planes, sums = digit_planes(operand, stack.row_bytes, SINGLE)
    with interpreter(checked=False) as run:
        args = (run, stack, programs(stack, SINGLE), planes, sums, step)
        got = launch(*args, torch.float16, SINGLE)
    assert torch.isnan(got[1]).all()
    want = expected(matrices, x, 1, biases, torch.float16)
    assert torch.equal(got[[0, 2]], want[[0, 2]])


def test_planes_may_have_other_columns_and_strides():
    matrices, biases = three("out")
    stack = stack_layers(matrices, 1, biases)
    x = torch.from_numpy(np.random.default_rng(SEED).standard_normal((3, 77)))
    operand, step = columns(matrices, stack, x, 1)
    whole, sums = digit_planes(operand, stack.row_bytes, SINGLE)
    # exactly the columns there are, amid numbers that must not be read
    planes = torch.full((8, 3, 300), 77, dtype=torch.int8)[:, :, : whole.shape[2]]
    planes.copy_(whole[:, :3])
    with interpreter(checked=False) as run:
        args = (run, stack, programs(stack, SINGLE), planes, sums[:3], step)
        got = launch(*args, torch.float32, SINGLE)
    assert torch.equal(got, expected(matrices, x, 1, biases, torch.float32))


@settings(max_examples=40)
@given(
    name=st.sampled_from(PLAIN),
    outputs=st.integers(24, 200),
    rows=st.sampled_from([32, 64, 128]),
)
def test_programs_hold_every_output_once_with_its_window(name, outputs, rows):
    code = CODES[name]
    matrix = layer(np.random.default_rng(0), code, "out", (outputs, 1))
    stack = stack_layers([matrix], 1)
    (segment,) = stack.rows()
    starts = window_starts(segment, stack.starts.numpy())
    tile = SINGLE._replace(rows=rows)
    held = []
    layout = programs(stack, tile)
    for first_bit, bits, start, first, count, _ in layout.table.tolist():
        assert (first_bit, bits) == (0, segment.bits)
        assert start == starts[first]
        assert (starts[first : first + count] + code.window <= start + rows).all()
        assert 1 <= count <= layout.outputs <= rows
        held += range(first, first + count)
    assert held == list(range(outputs))
    # as few programs as there can be: the next output's window would not have fitted
    for _, _, start, first, count, _ in layout.table.tolist()[:-1]:
        assert count == rows or starts[first + count] + code.window > start + rows


@pytest.mark.parametrize(
    ("name", "rows", "part"),
    [
        ("LQ-12/5+9", 64, 0.84),
        ("LQ-12/5+9", 128, 0.92),
        ("LQ-2/1+10", 64, 0.84),
        ("LQ-24/10", 64, 0.75),
        ("LQ-24/10", 128, 0.94),
        ("LQ-16/8", 64, 1.0),
    ],
)
def test_efficiency_is_what_the_formula_says(name, rows, part):
    code = CODES[name]
    matrix = layer(np.random.default_rng(0), code, "out", (9600, 1))
    got = efficiency(stack_layers([matrix], 1), SINGLE._replace(rows=rows))
    rate = code.lifted / code.group
    formula = (
        (rows - code.window + rate) / rows
        if code.overlap
        else code.lifted * (rows // code.lifted) / rows
    )
    assert round(got, 2) == part
    assert abs(got - formula) < 0.02


def test_a_window_wider_than_the_tile_is_refused():
    stack = stack_layers([layer(np.random.default_rng(0), CODES["LQ-24/10"], "out", (40, 9))], 1)
    with pytest.raises(LiftError, match="window of 24 bits does not fit a tile of 16 rows"):
        programs(stack, SINGLE._replace(rows=16))
    assert spans_of(np.array([0, 0, 8, 8]), 8, 8) == [(0, 2), (2, 2)]


def test_wrong_arguments_are_named(monkeypatch):
    matrices, _ = three("out")
    stack = stack_layers(matrices, 2)
    planes, sums = torch.zeros((8, 6, 128), dtype=torch.int8), torch.zeros(6, dtype=torch.int32)

    def call(planes=planes, sums=sums, step=None, dtype=torch.float32):
        step = torch.ones(3) if step is None else step
        with interpreter(checked=False) as run:
            launch(run, stack, programs(stack, SINGLE), planes, sums, step, dtype, SINGLE)

    call()
    with pytest.raises(LiftError, match=r"\(8, 6, 127\) do not fit 3 .* least \(8, 6, 128\)"):
        call(planes[:, :, :127])
    with pytest.raises(LiftError, match=r"\(8, 5, 128\) do not fit 3 tokens"):
        call(planes[:, :5])
    with pytest.raises(LiftError, match=r"planes are torch\.int16"):
        call(planes.short())
    with pytest.raises(LiftError, match="the bytes of a column adjacent"):
        call(torch.zeros((8, 128, 6), dtype=torch.int8).transpose(1, 2))
    with pytest.raises(LiftError, match=r"column sums are torch\.int32 of shape \(5,\)"):
        call(sums=sums[:5])
    with pytest.raises(LiftError, match=r"steps are torch\.float32 of shape \(3, 1\)"):
        call(step=torch.ones(3, 1))
    with pytest.raises(LiftError, match=r"not torch\.float64"):
        call(dtype=torch.float64)
    monkeypatch.setattr("gpu.fused.MAX_ELEMENTS", 6143)
    with pytest.raises(LiftError, match=r"\(8, 6, 128\) are over 6143 bytes.*split the tokens"):
        call()


def test_the_tile_follows_the_columns():
    assert [tile_for(n).columns for n in (1, 8, 9, 17, 99)] == [8, 8, 16, 32, 32]
    assert [tile_for(n, amd=True).columns for n in (1, 17, 99)] == [16, 32, 32]


@pytest.mark.parametrize("target", ["sm_80", "sm_100", "gfx942"])
def test_it_compiles_without_spills(target):
    named = {job.kernel: job for job in jobs()}
    assert len(named) == len(jobs())
    ours = [job for job in jobs() if job.suits(target) and job.constants["PER_TOKEN"] == 2]
    assert len(ours) == (4 if target == "gfx942" else 6)
    for job in ours[1:4:2]:
        assert build.compile_one(job, target).spills == 0
