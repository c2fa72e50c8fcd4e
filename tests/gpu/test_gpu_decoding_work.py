"""The kernels of a decoding step against counts by hand."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from algo.errors import LiftError
from algo.matrix import AXES, Axis
from algo.shapes import read_shapes
from algo.shipped import shipped_codes
from gpu.decoding_work import (
    Decoding,
    ProductCost,
    bit_matrix,
    dense_kernels,
    multiplied_rows,
    our_kernels,
)
from gpu.gpus import Gpu
from gpu.llama_models import MODELS, llama_shapes
from gpu.speed import plain_code
from gpu.time_model import Assumptions, Kernel, step_time
from tests.conftest import ROOT, random_code

COST = ProductCost(rows=64, columns=16, lanes_per_bit=0.5)
GPU = Gpu("round", "sm_0", 10, 1.0, 100, 1.0, 1, 1e9, 1e9, "made up")
SMALL = llama_shapes(MODELS["llama-3-8b"])
# rows and columns of the stacks that share an input: q/k/v, o, gate/up, down
STACKS = ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336))


def ours(bits: float, how: Decoding, cost: ProductCost = COST) -> list[Kernel]:
    return our_kernels(SMALL, dict.fromkeys(SMALL.linears, plain_code(bits)), how, cost)


def total(kernels: list[Kernel], name: str, what: str) -> float:
    return sum(k.launches * getattr(k, what) for k in kernels if k.name == name)


@pytest.mark.parametrize("name", ["llama-3-70b", "llama-2-70b"])
def test_models_known_by_name_are_what_transformers_makes(name: str) -> None:
    read = read_shapes(str(ROOT / "tests" / "configs" / f"{name}.json"), torch.bfloat16)
    known = llama_shapes(MODELS[name])
    assert replace(known, dtypes_from=read.dtypes_from) == read
    assert list(known.linears) == list(read.linears)


def test_weights_of_llama_3_8b_by_hand() -> None:
    block = sum(rows * columns for rows, columns in STACKS)
    assert block == 2 * 4096**2 + 2 * 1024 * 4096 + 3 * 14336 * 4096 == 218_103_808
    assert SMALL.weights == 32 * block == 6_979_321_856


@pytest.mark.parametrize("bits", [2.0, 2.4, 3.0])
@pytest.mark.parametrize("fused", [True, False])
def test_bits_read_are_those_of_the_weights(bits: float, fused: bool) -> None:
    how = Decoding(context=1, fused=fused)
    code = plain_code(bits)
    read = sum(r * k for r, k in (bit_matrix(s, code, "out") for s in SMALL.linears.values())) / 8
    # rows that are no multiple of the group are padded to one
    assert bits * SMALL.weights / 8 <= read <= 1.001 * bits * SMALL.weights / 8
    beside = 32 * sum(16 * k for _, k in STACKS)  # planes
    if fused:
        beside += 32 * sum(4 * rows for rows, _ in STACKS)  # output and scales
    else:
        beside += sum(4 * 2 * bit_matrix(s, code, "out")[0] for s in SMALL.linears.values())
    assert total(ours(bits, how), "product", "memory_bytes") == read + beside


def test_programs_repeat_the_bits_that_neighbours_share() -> None:
    """Shares of rows that are not repeated in tiles of 64, as `gpu.fused` states them."""
    for name, share in (("12/5+9", 0.84), ("2/1+10", 0.84), ("24/10", 0.75), ("16/8", 1.0)):
        code = shipped_codes()[f"LQ-{name}"].code
        rows = 8000 // code.group * code.lifted
        assert rows / multiplied_rows(8000, rows, code, 64, True) == pytest.approx(share, abs=0.01)
        assert multiplied_rows(8000, rows, code, 64, False) == -(-rows // 64) * 64


def test_programs_of_a_code_by_hand() -> None:
    code = random_code(2, 1, window=4)  # 7 outputs of 4 bits, two apart, in 16 rows
    assert [multiplied_rows(n, 2 * n, code, 16, True) for n in (1, 7, 8, 14, 15)] == [
        16, 16, 32, 32, 48,
    ]  # fmt: skip
    with pytest.raises(LiftError, match="a window of 4 bits does not fit a tile of 3 rows"):
        multiplied_rows(8, 16, code, 3, True)


def test_the_cache_delivers_words_once_and_planes_to_every_tile_of_rows() -> None:
    how = Decoding(context=1, fused=False)
    words = 2 * SMALL.weights / 8
    planes = 32 * sum(2 * rows // 64 * 16 * k for rows, k in STACKS)
    assert total(ours(2.0, how), "product", "cache_bytes") == words + planes
    assert planes == 2 * words  # 16 columns of a byte per 64 rows of a bit
    twice = replace(how, batch=16)  # 32 columns: two tiles read the words
    assert total(ours(2.0, twice), "product", "cache_bytes") == 2 * words + 2 * planes


@pytest.mark.parametrize("bits", [2.0, 2.4, 3.0])
def test_instructions_and_products_follow_the_bits_multiplied(bits: float) -> None:
    plain, fused = (ours(bits, Decoding(fused=f)) for f in (False, True))
    for kernels in (plain, fused):
        lanes = total(kernels, "product", "lanes")
        assert total(kernels, "product", "int8_macs") == lanes / COST.lanes_per_bit * 16
    multiplied = total(plain, "product", "lanes") / COST.lanes_per_bit
    assert bits * SMALL.weights <= multiplied <= 1.02 * bits * SMALL.weights
    assert 1.1 < total(fused, "product", "lanes") / total(plain, "product", "lanes") < 1.4


def test_the_matrix_lies_along_the_inputs_on_both_axes() -> None:
    code = random_code(12, 5, window=12)
    assert bit_matrix((11, 576), code, "out") == (36, 576)  # three groups of rows
    assert bit_matrix((11, 576), code, "in") == (11, 116 * 12)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("fused", [True, False])
def test_launches(axis: Axis, fused: bool) -> None:
    names = Counter[str]()
    for kernel in ours(2.4, Decoding(axis=axis, fused=fused)):
        names[kernel.name] += kernel.launches
    per_block = 4 * (3 + (1 if fused else 2)) + 6
    assert sum(names.values()) == 32 * per_block + 5
    assert names["whitening"] == 32 * 4 * 2
    assert names["quantisation"] == 32 * 4
    assert names["projection"] == (0 if fused else 32 * 4)


def test_other_formats_launch_once_per_input() -> None:
    assert sum(k.launches for k in dense_kernels(SMALL, 16, 16, Decoding())) == 32 * 10 + 5
    rotated = dense_kernels(SMALL, 2, 16, Decoding(), rotations=2)
    assert sum(k.launches for k in rotated) == 32 * 18 + 5


@pytest.mark.parametrize("axis", AXES)
def test_batch_one_is_bytes_over_bandwidth_where_all_else_is_free(axis: Axis) -> None:
    kernels = ours(2.4, Decoding(axis=axis), ProductCost(64, 16, 0.0))
    step = step_time(kernels, GPU, Assumptions(1.0, 1e9, 1.0, 1.0, 0.0))
    moved = sum(k.launches * k.memory_bytes for k in kernels)
    assert step.seconds == pytest.approx(moved / 1e12)
    words_and_head = 2.4 / 8 * SMALL.weights + 2 * 128256 * 4096
    assert words_and_head < moved < 1.09 * words_and_head


def test_dense_16_bits_move_what_the_model_holds() -> None:
    moved = sum(
        k.launches * k.memory_bytes for k in dense_kernels(SMALL, 16, 16, Decoding(context=1))
    )
    held = 2 * (SMALL.weights + 128256 * 4096)
    assert held < moved < 1.002 * held


def test_the_cache_grows_with_context_and_batch() -> None:
    def attention(**how: int) -> float:
        return total(ours(2.0, Decoding(**how)), "attention", "memory_bytes")

    assert attention(context=1000) == 32 * 2 * 8 * 128 * 2 * 1000
    assert attention(context=1000, batch=3) == 3 * attention(context=1000)
    assert attention(context=1000, kv_bits=8) == attention(context=1000) / 2


def test_columns_repeat_the_tile() -> None:
    assert Decoding(batch=8).columns == 16
    assert Decoding(batch=9, digits=1).columns == 9
    assert Decoding(batch=2, axis="in").columns == 8
    assert Decoding(batch=2, axis="in", digits=1).columns == 8
    once = total(ours(2.0, Decoding(batch=8)), "product", "int8_macs")
    assert total(ours(2.0, Decoding(batch=9)), "product", "int8_macs") == 2 * once


def test_head_bits_count() -> None:
    def head(bits: int) -> float:
        return total(ours(2.0, Decoding(head_bits=bits)), "head", "memory_bytes")

    assert head(16) - head(8) == 128256 * 4096 - 2 * 128256  # and a scale per row


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch": 0}, "batch must be from 1 to 128, not 0"),
        ({"batch": 129}, "batch must be from 1 to 128, not 129"),
        ({"context": 0}, "context must be at least 1"),
        ({"axis": "up"}, "axis 'up' is none of in, out"),
        ({"digits": 3}, "digits must be 1 or 2"),
        ({"head_bits": 1}, "head_bits must be from 2 to 16"),
        ({"kv_bits": 17}, "kv_bits must be from 2 to 16"),
    ],
)
def test_wrong_numbers_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(LiftError, match=message):
        Decoding(**wrong)  # type: ignore[arg-type]
