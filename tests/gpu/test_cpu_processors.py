"""The kernels on processors that have less: compiled for them, run here."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

CHECK = """
import numpy as np, torch
from algo.layer import ReferenceLinear
from algo.whitening import random_whitening
from gpu.cpu.layer import cpu_layer, cpu_linear
from gpu.cpu.product import _run
from gpu.whiten import whitening_tensors
from tests.conftest import CODES
from tests.gpu.layers import layer

rng = np.random.default_rng(5)
whitening = random_whitening(77, 1)
for name in ("LQ-2/1+6^3", "LQ-12/5+9"):
    matrix = layer(rng, CODES[name], "out", (150, 77))
    for tokens in (1, 40):
        x = torch.from_numpy(rng.standard_normal((tokens, 77))).float()
        out = cpu_linear(x, whitening_tensors(whitening), [cpu_layer(matrix)], 2)
        assert torch.equal(out, ReferenceLinear(matrix, whitening, digits=2)(x))
assert "zmm" not in "".join(_run.inspect_asm().values())
"""


@pytest.mark.parametrize("processor", ["x86-64-v2"])
def test_a_processor_without_avx(processor, tmp_path):
    environment = os.environ | {
        "NUMBA_CPU_NAME": processor,
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    subprocess.run([sys.executable, "-c", CHECK], check=True, env=environment, cwd=ROOT)
