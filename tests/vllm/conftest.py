"""What is tested under vLLM, in an environment of its own: ``make test-vllm``. Elsewhere nothing.

vLLM runs in other processes, one for each model: `tests.vllm.offline`.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.vllm.asking import Asking

collect_ignore_glob = [] if find_spec("vllm") else ["test_*.py"]


@pytest.fixture(scope="session")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Asking:
    """Runs vLLM; what was asked before is answered at once."""
    return Asking(tmp_path_factory.mktemp("vllm"))


@pytest.fixture(scope="session")
def real_checkpoint(real_gguf: Path) -> Path:
    """SmolLM2-135M-Instruct at 4 bits, rounded to the nearest codeword."""
    folder = ROOT / "build" / "vllm" / "checkpoint"
    if not (folder / "liftquant.json").exists():
        command = ["quantize", str(real_gguf), str(folder), "--calib", "none"]
        run = "from liftquant.cli import main; main()"
        subprocess.run(
            [sys.executable, "-c", run, *command, "--code", "LQ-4/1+4"], cwd=ROOT, check=True
        )
    return folder
