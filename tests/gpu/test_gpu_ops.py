"""The operators as torch sees them: schema, fake tensors, torch.compile."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gpu.ops import bitmm, decode
from gpu.tables import INTEGER_TYPES, REAL_TYPES, code_tables
from tests.gpu.cases import random_code, streams

SEED = 22


# No two sizes below are equal: torch.compile would take them for one and the same.
def decode_arguments(parities=0):
    rng = np.random.default_rng(SEED)
    code = random_code(rng, 12, 5, 9, parities)
    _, _, extended = next(streams(rng, code, 6, 7))
    return torch.from_numpy(extended.view(np.int32)), code_tables(code)


def bitmm_arguments():
    rng = np.random.default_rng(SEED)
    words = torch.from_numpy(
        rng.integers(-(2**31), 2**31, (11, 3), dtype=np.int64).astype(np.int32)
    )
    return words, torch.from_numpy(rng.integers(-128, 128, (77, 2)).astype(np.int8))


@pytest.mark.parametrize("dtype", INTEGER_TYPES, ids=str)
@pytest.mark.parametrize("parities", [0, 3])
def test_decode_passes_opcheck(parities, dtype):
    words, tables = decode_arguments(parities)
    torch.library.opcheck(torch.ops.liftquant.decode.default, (words, *tables, 7, dtype))


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("dtype", REAL_TYPES, ids=str)
def test_decode_to_real_weights_passes_opcheck(dtype, axis):
    words, tables = decode_arguments(3)
    scales = torch.arange(1, 7 if axis == "in" else 34, dtype=torch.float32)
    arguments = (words, *tables, 7, dtype, 33, axis, scales)
    torch.library.opcheck(torch.ops.liftquant.decode.default, arguments)


def test_bitmm_passes_opcheck():
    torch.library.opcheck(torch.ops.liftquant.bitmm.default, bitmm_arguments())


def test_torch_compile_of_both_without_a_graph_break():
    words, tables = decode_arguments()
    bits, digits = bitmm_arguments()

    def both(words, bits, digits):
        return (
            decode(words, tables, 7) * 2,
            decode(words, tables, 7, torch.float16),
            bitmm(bits, digits) + 1,
        )

    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    for got, want in zip(compiled(words, bits, digits), both(words, bits, digits), strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


def test_one_compilation_serves_every_number_of_streams_and_columns():
    words, tables = decode_arguments()
    bits, digits = bitmm_arguments()
    compiled = torch.compile(
        lambda w, b, d: (decode(w, tables, 7), bitmm(b, d)),
        fullgraph=True,
        dynamic=True,
        backend="aot_eager",
    )
    compiled(words, bits, digits)
    with torch.compiler.set_stance("fail_on_recompile"):
        weights, product = compiled(
            words.repeat(2, 1), bits.repeat(3, 1), digits.repeat(1, 4).contiguous()
        )
    assert torch.equal(weights, decode(words, tables, 7).repeat(2, 1))
    assert torch.equal(product, bitmm(bits, digits).repeat(3, 4))


def test_fake_tensors_have_the_shapes_and_dtypes_of_real_ones():
    words, tables = decode_arguments(2)
    bits, digits = bitmm_arguments()
    with FakeTensorMode() as mode:
        fake = tables._replace(
            **{
                name: mode.from_tensor(value)
                for name, value in tables._asdict().items()
                if isinstance(value, torch.Tensor)
            }
        )
        half = decode(mode.from_tensor(words), fake, 7, torch.float16)
        product = bitmm(mode.from_tensor(bits), mode.from_tensor(digits))
        planes = decode(mode.from_tensor(words), fake, 7, torch.int8, 33, "out")
    assert (half.shape, half.dtype) == ((6, 35), torch.float16)
    assert (planes.shape, planes.dtype) == ((2, 33, 6), torch.int8)
    assert decode(words, tables, 7, torch.int8, 33, "out").shape == planes.shape
    assert (product.shape, product.dtype) == ((11, 2), torch.int32)
    assert decode(words, tables, 7, torch.float16).shape == half.shape
    assert bitmm(bits, digits).shape == product.shape


def test_uint32_words_and_views_are_the_same_words():
    words, tables = decode_arguments()
    want = decode(words, tables, 7)
    assert torch.equal(decode(words.view(torch.uint32), tables, 7), want)
    apart = torch.stack([words, torch.zeros_like(words)], dim=2)[:, :, 0]
    assert not apart.is_contiguous()
    assert torch.equal(decode(apart, tables, 7), want)
    bits, digits = bitmm_arguments()
    want = bitmm(bits, digits)
    assert torch.equal(bitmm(bits.view(torch.uint32), digits.t().contiguous().t()), want)


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, gpu; assert not {'torch', 'triton', 'numpy'} & set(sys.modules);"
        "import gpu.ops; assert 'triton' not in sys.modules; import gpu.interpret, gpu.build;"
        "assert 'triton' not in sys.modules; import torch; assert not torch.cuda.is_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
