"""That the interpreter runs the kernels' own source, and cleans up after itself."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.errors import InterpreterError
from triton.runtime.interpreter import interpreter_builder

from algo.decode import decode_words
from gpu import bitmm, decode
from gpu.interpret import interpreted, interpreted_bitmm, interpreted_decode, interpreter
from tests.conftest import ROOT
from tests.gpu.cases import random_code, streams

SEED = 23


@triton.jit
def add_kernel(a, b, out, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out + at, tl.load(a + at) + tl.load(b + at))


def case():
    rng = np.random.default_rng(SEED)
    code = random_code(rng, 12, 5, 9, 2)
    _, words, extended = next(streams(rng, code, 3, 50))
    return code, words, extended


KERNELS = ("decode_kernel", "decode_tile", "bitmm_kernel", "one_bit_tile")


def lines_run(function, *arguments):
    """(file, kernel) to the lines that ran while `function` did."""
    seen: dict[tuple[str, str], set[int]] = {}

    def trace(frame, event, _):
        if frame.f_code.co_name not in KERNELS:
            return None
        if event == "line":
            key = (frame.f_code.co_filename, frame.f_code.co_name)
            seen.setdefault(key, set()).add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(*arguments)
    finally:
        sys.settrace(before)
    return seen


def lines_with(path, texts):
    with open(path) as source:
        lines = source.readlines()
    return {n for n, line in enumerate(lines, 1) for text in texts if text in line}


def test_it_is_the_kernels_own_lines_that_run():
    code, _, extended = case()
    seen = lines_run(interpreted_decode, extended, code, 50)
    assert set(seen) == {(decode.__file__, name) for name in ("decode_kernel", "decode_tile")}
    wanted = lines_with(decode.__file__, ["window = (", "acc = tl.load("])
    assert len(wanted) == 2
    assert wanted <= seen[decode.__file__, "decode_tile"]
    wanted = lines_with(decode.__file__, ["tl.store(to, acc.to(element)"])
    assert len(wanted) == 1
    assert wanted <= seen[decode.__file__, "decode_kernel"]

    seen = lines_run(interpreted_bitmm, np.ones((2, 1), np.uint32), np.ones((32, 1), np.int8))
    assert set(seen) == {(bitmm.__file__, name) for name in ("bitmm_kernel", "one_bit_tile")}
    wanted = lines_with(bitmm.__file__, ["= tl.dot(", "total = "])
    wanted -= lines_with(bitmm.__file__, ["total = one_bit_tile("])
    assert len(wanted) == 9
    assert wanted <= seen[bitmm.__file__, "one_bit_tile"]


def test_it_wraps_the_function_that_is_compiled():
    assert isinstance(decode.decode_kernel, triton.runtime.JITFunction)
    with interpreted(decode.decode_kernel, checked=False) as kernel:
        assert kernel.fn.__code__ is decode.decode_kernel.fn.__code__


def test_a_changed_kernel_gives_other_results(monkeypatch):
    """Control: the answer comes from the kernel, not from some copy of the decoder."""
    code, words, extended = case()

    def broken(words, starts, cells, turns, crossing, scales, out, streams, first, weights, lifted,
               group, row_words, stream_step, weight_step, plane_step, CELLS, CELL_BITS, CROSSING,
               SCALED, OUT, STREAMS: tl.constexpr, WEIGHTS: tl.constexpr):  # fmt: skip
        at = tl.arange(0, WEIGHTS)
        tl.store(out + at, at.to(tl.int16), mask=at < weights)

    monkeypatch.setattr(decode, "decode_kernel", triton.jit(broken))
    got = interpreted_decode(extended, code, 50)
    assert got.ravel()[:250].tolist() == list(range(250))
    monkeypatch.undo()
    assert np.array_equal(interpreted_decode(extended, code, 50), decode_words(words, 50, code))


def test_checked_mode_catches_an_overflow_and_fast_mode_wraps():
    a = torch.tensor([2**31 - 1, 5], dtype=torch.int32)
    out = torch.zeros_like(a)
    with interpreted(add_kernel, checked=False) as kernel:
        kernel[(1,)](a, torch.ones_like(a), out, N=2)
    assert out.tolist() == [-(2**31), 6]
    with (
        pytest.raises(InterpreterError, match="int32 overflow detected"),
        interpreted(add_kernel, checked=True) as kernel,
    ):
        kernel[(1,)](a, torch.ones_like(a), out, N=2)


def test_nothing_of_triton_is_left_changed():
    code, _, extended = case()
    # Triton's own restoring makes a class's own what it inherited: once, which changes nothing
    interpreted_decode(extended, code, 50)
    options = interpreter_builder.options
    names = {m: dict(vars(m)) for m in (tl, tl.core, tl.tensor, tl.dtype, tl.math, decode)}
    environment = dict(os.environ)
    interpreted_decode(extended, code, 50)
    interpreted_decode(extended, code, 50, checked=True)
    out = torch.zeros(2, dtype=torch.int32)
    with (
        pytest.raises(InterpreterError),
        interpreted(add_kernel, checked=True) as kernel,
    ):
        kernel[(1,)](out, out + 2**31 - 1, out, N=3)  # a range that is no power of two
    assert interpreter_builder.options is options
    assert dict(os.environ) == environment
    for module, before in names.items():
        after = dict(vars(module))
        assert after.keys() == before.keys()
        assert all(after[name] is before[name] for name in before), module


def test_the_same_result_where_the_environment_asks_for_the_interpreter():
    script = """
import numpy as np, sys
from algo.decode import decode_words
from gpu import build
from gpu.interpret import interpreted_bitmm, interpreted_decode
sys.path.insert(0, sys.argv[1])
from tests.gpu.cases import random_code, streams
rng = np.random.default_rng(23)
code = random_code(rng, 12, 5, 9, 2)
_, words, extended = next(streams(rng, code, 3, 50))
assert np.array_equal(interpreted_decode(extended, code, 50), decode_words(words, 50, code))
assert interpreted_bitmm(np.ones((2, 1), np.uint32), np.ones((32, 1), np.int8))[0, 0] == -30
from gpu import decode
assert type(decode.decode_kernel).__name__ == "InterpretedFunction"
job = decode.jobs()[0]
assert build.compile_one(job, "sm_80").code_bytes > 0
"""
    subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(ROOT)],
        check=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )


@triton.jit
def scaled_sum(x, FACTOR: tl.constexpr):
    return tl.sum(x * FACTOR, axis=0)


@triton.jit
def one_more(x, FACTOR: tl.constexpr = 3):
    return scaled_sum(x, FACTOR) + 1


@triton.jit
def helped_kernel(a, out, N: tl.constexpr):
    x = tl.load(a + tl.arange(0, N))
    tl.store(out, one_more(x))
    tl.store(out + 1, tl.max(x, axis=0))


def test_helpers_and_reductions_are_interpreted_too():
    a, out = torch.arange(8, dtype=torch.int32), torch.zeros(2, dtype=torch.int32)
    places = (tl, tl.core, tl.standard, tl.math, tl.tensor, tl.dtype)
    before = [dict(vars(place)) for place in places]
    with interpreter(checked=True) as run:
        run(helped_kernel)[(1,)](a, out, N=8)
    assert out.tolist() == [85, 7]
    assert [dict(vars(place)) for place in places] == before
