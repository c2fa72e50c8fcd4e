"""Threads of the CPU's kernels: whoever comes does the work, and it is always the same."""

import ctypes
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from algo.layer import ReferenceLinear
from algo.whitening import random_whitening
from gpu.cpu import bitmm, decoded_product, prepare, product
from gpu.cpu.layer import cpu_layer, cpu_linear
from gpu.cpu.threads import parallel_address, thread_count
from gpu.whiten import whitening_tensors
from tests.conftest import CODES, ROOT
from tests.gpu.layers import layer

FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_int64)
PARALLEL = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint, ctypes.c_uint)


def example(tokens, code="LQ-2/1+6^3", seed=0):
    """A layer, its input and what the reference makes of it."""
    rng = np.random.default_rng(seed)
    matrix, whitening = layer(rng, CODES[code], "out", (300, 77)), random_whitening(77, seed)
    x = torch.from_numpy(rng.standard_normal((tokens, 77))).float()
    return (
        x,
        whitening_tensors(whitening),
        [cpu_layer(matrix)],
        ReferenceLinear(matrix, whitening, digits=1)(x),
    )


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("tokens", [1, 3, 40])
def test_work_is_shared_by_however_many_come(tokens, monkeypatch):
    """Three are asked for; none, one or all of those after the first find anything to do."""
    asked = []

    @PARALLEL
    def in_turn(function, data, threads, flags):
        asked.append((threads, flags))
        for _ in range(threads):
            FUNCTION(function)(data)

    address = ctypes.cast(in_turn, ctypes.c_void_p).value
    for module in (prepare, product, decoded_product):
        monkeypatch.setattr(module, "parallel_address", lambda: address)
        monkeypatch.setattr(module, "thread_count", lambda: 3)
    x, whitening, layers, wanted = example(tokens)
    assert torch.equal(cpu_linear(x, whitening, layers, 1), wanted)
    assert asked
    assert set(asked) == {(3, 0)}


@pytest.mark.parametrize("tokens", [1, 3, 40])
def test_torchs_threads_give_what_one_gives(tokens, two_threads):
    assert parallel_address()
    assert thread_count() == 2
    for seed in range(5):
        x, whitening, layers, wanted = example(tokens, seed=seed)
        assert torch.equal(cpu_linear(x, whitening, layers, 1), wanted)


def test_bitmm_by_two_threads(two_threads):
    from gpu import reference

    words = torch.from_numpy(np.random.default_rng(1).integers(-(2**31), 2**31, (300, 3))).int()
    digits = torch.from_numpy(np.random.default_rng(2).integers(-128, 128, (90, 4))).to(torch.int8)
    assert torch.equal(bitmm.bitmm(words, digits), reference.bitmm(words, digits))


def test_several_python_threads_at_once(two_threads):
    examples = [example(tokens, seed=tokens) for tokens in (1, 2, 3, 40) * 3]

    def equal(given):
        x, whitening, layers, wanted = given
        return all(torch.equal(cpu_linear(x, whitening, layers, 1), wanted) for _ in range(10))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(equal, examples))


AFTER_FORK = """
import os, signal, torch
from gpu.cpu.layer import cpu_linear
from gpu.cpu.threads import thread_count
from tests.gpu.test_cpu_threads import example

torch.set_num_threads(2)
given = [example(tokens) for tokens in (1, 40)]
def equal():
    return all(torch.equal(cpu_linear(x, w, layers, 1), out) for x, w, layers, out in given)
assert thread_count() == 2 and equal()
child = os.fork()
if not child:
    signal.alarm(60)
    torch.set_num_threads(1)  # torch's own products would wait for threads that are gone
    os._exit(0 if thread_count() == 1 and equal() else 1)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert thread_count() == 2 and equal()
"""


def test_a_forked_process_works_alone():
    subprocess.run([sys.executable, "-c", AFTER_FORK], check=True, cwd=ROOT, timeout=300)


def test_without_a_runtime_the_caller_does_it_all(monkeypatch):
    from gpu.cpu import threads

    monkeypatch.setattr(threads, "parallel_address", lambda: 0)
    assert threads.thread_count() == 1
