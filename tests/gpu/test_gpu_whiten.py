"""The whitening kernel: the reference's bits, and machine code that cannot give others."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from algo.errors import LiftError
from algo.whitening import random_whitening
from gpu import decode_dot, fused, lift, project, quantise, whiten
from gpu.build import TARGETS, compile_one
from gpu.interpret import interpreter
from gpu.whiten import FEW, MANY, Block
from gpu.whitening_tensors import whitening_tensors

SEED = 35
# HFMA2 is left out: constants are made with it
FUSED = re.compile(r"\b(?:FFMA2?|DFMA|v_(?:pk_)?(?:fma|fmac|mad|mac)_(?:legacy_|mix\w*_)?f\d+)")
FLUSHED = re.compile(r"\b(?:FMUL|FADD)[\w.]*\.FTZ|float_denorm_mode_32 [012]")
WHITEN = {job.kernel: job for job in whiten.jobs()}


def machine_code(job, target: str, folder: Path, fusion: bool = False) -> str:
    function = JITFunction(job.function.fn)
    names = function.arg_names
    source = ASTSource(
        function,
        {name: job.signature.get(name, "constexpr") for name in names},
        job.constants,
        {(names.index(name),): [["tt.divisibility", 16]] for name in job.aligned},
    )
    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = str(folder)
        options = {**job.options, "enable_fp_fusion": fusion}
        compiled = triton.compile(source, target=GPUTarget(*TARGETS[target]), options=options)
    if "amdgcn" in compiled.asm:
        return compiled.asm["amdgcn"]
    path = folder / "kernel.cubin"
    path.write_bytes(compiled.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    run = subprocess.run([tool, "-c", path], check=True, capture_output=True, text=True)
    return run.stdout


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kernel", ["whiten-first-bfloat16-many", "whiten-last-few"])
def test_nothing_is_fused_or_flushed_in_the_machine_code(kernel, target, tmp_path):
    code = machine_code(WHITEN[kernel], target, tmp_path)
    assert re.search(r"\bFADD\b|\bv_(?:pk_)?add_f32", code)
    assert not FUSED.search(code)
    assert not FLUSHED.search(code)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("module", [project, fused, decode_dot], ids=lambda m: m.__name__)
def test_the_rounding_at_the_end_is_not_fused_either(module, target, tmp_path):
    job = next(job for job in module.jobs() if job.suits(target) and "a15" in job.kernel)
    code = machine_code(job, target, tmp_path)
    assert re.search(r"\bDADD\b|\bv_(?:pk_)?add_f64", code)
    assert not FUSED.search(code)


@pytest.mark.parametrize("module", [project, fused, decode_dot], ids=lambda m: m.__name__)
def test_fusion_of_the_rounding_would_be_seen(module, tmp_path):
    job = next(job for job in module.jobs() if job.suits("sm_90") and "a15" in job.kernel)
    assert FUSED.search(machine_code(job, "sm_90", tmp_path, fusion=True))


@pytest.mark.parametrize("target", TARGETS)
def test_fusion_would_be_seen(target, tmp_path):
    """Control: left to itself, the compiler does fuse, and the pattern knows its instructions."""
    assert FUSED.search(machine_code(WHITEN["whiten-last-few"], target, tmp_path, fusion=True))


def test_no_registers_are_spilled():
    """On the target with the fewest to spare; the compile report looks at all of them."""
    jobs = [*whiten.jobs(), *quantise.jobs(), *lift.jobs()]
    assert len({job.kernel for job in jobs}) == len(jobs) == 15
    found = {job.kernel: compile_one(job, "sm_80").spills for job in jobs if "16" not in job.kernel}
    assert len(found) == 11
    assert not any(found.values()), found


def transformed(x, tensors, block, checked=False):
    zeros = torch.full((len(x) + 300,), -1, dtype=torch.int32)
    with interpreter(checked) as run:
        out = whiten.whiten(run, x, tensors, zeros, zeros[300:], block)
    return out, zeros


@pytest.mark.parametrize("block", [FEW, MANY, Block(4, 16, 8, 1, 3)])
def test_bits_of_the_reference_in_every_block(block):
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    whitening = random_whitening(60, SEED)  # 6 x 10: parts of blocks
    x = torch.from_numpy(rng.standard_normal((7, 60)).astype(np.float32))
    x[1] *= 2.0**-130  # products are subnormal
    x[2] = 0
    got, zeros = transformed(x, whitening_tensors(whitening), block)
    want = whitening.ordered(x)
    assert torch.equal(got.view(torch.int32), want.view(torch.int32))
    assert not zeros[:300].any()
    assert torch.equal(zeros[300:].view(torch.float32), want.abs().amax(dim=1))


def test_another_order_of_summation_would_show():
    """Control: the same sums in another order have other bits."""
    whitening = random_whitening(576, SEED)
    x = torch.randn((3, 576), generator=torch.Generator().manual_seed(SEED))
    assert not torch.equal(whitening.activations(x), whitening.ordered(x))


def test_the_largest_magnitude_of_what_is_no_number_is_above_all():
    whitening, x = random_whitening(6, SEED), torch.ones(3, 6)
    x[1, 2], x[2, 4] = torch.inf, torch.nan
    with np.errstate(invalid="ignore"):
        _, zeros = transformed(x, whitening_tensors(whitening), FEW)
    bits = zeros[300:]
    assert bits[0] < 0x7F800000
    assert (bits[1:] >= 0x7F800000).all()


def test_a_factor_too_narrow_for_the_block_is_refused():
    with pytest.raises(LiftError, match="rows of 64 are not whole multiples"):
        transformed(
            torch.ones(1, 6), whitening_tensors(random_whitening(6, 0)), Block(4, 2, 32, 1, 1)
        )


def test_more_than_indices_reach_is_refused():
    x, largest = (torch.empty(shape, device="meta") for shape in ((2**26, 6), (2**26,)))
    with (
        interpreter(False) as run,
        pytest.raises(LiftError, match="67108864 tokens of 6 inputs are over 2146435072"),
    ):
        whiten.whiten(run, x, whitening_tensors(random_whitening(6, 0), "meta"), largest, largest)
