"""Ask vLLM, in a process of its own, and keep what it answered."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

LIMIT = 900  # seconds, of a process; a start takes ten on an idle machine
SMALL = {
    "dtype": "float32", "enforce_eager": True, "max_model_len": 64, "max_num_seqs": 4,
    "max_num_batched_tokens": 64, "enable_prefix_caching": False, "disable_log_stats": True,
}  # fmt: skip


def vllm_environment(cache: Path, ranks: int = 1) -> dict[str, str]:
    """Variables of a process that runs vLLM on this machine's processors, `cache` its own."""
    cpus = sorted(os.sched_getaffinity(0))
    bind = "|".join(str(cpus[rank % len(cpus)]) for rank in range(ranks))
    return {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_CPU_OMP_THREADS_BIND": bind,
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0" if ranks == 1 else "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
    }


class Asking:
    """Runs `tests.vllm.offline`.

    Args:
        folder: for requests, answers and what compilers keep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._answers: dict[str, dict[str, Any]] = {}

    def __call__(
        self,
        model: Path,
        prompts: list[Any],
        tokens: int,
        chats: list[Any] | None = None,
        ranks: int = 1,
        **arguments: Any,
    ) -> dict[str, Any]:
        """The answer; ``arguments`` are those of `vllm.LLM`, beside `SMALL`."""
        given = {**SMALL, "model": str(model), "tensor_parallel_size": ranks, **arguments}
        request = {"model": given, "prompts": prompts, "tokens": tokens, "chats": chats or []}
        key = json.dumps(request, sort_keys=True)
        if key not in self._answers:
            run = self.run(request, ranks)
            assert run.returncode == 0, run.stdout[-6000:]
            self._answers[key] = json.loads(self._answer.read_text())
        return self._answers[key]

    @property
    def _answer(self) -> Path:
        return self.folder / "answer.json"

    def run(
        self, request: dict[str, Any], ranks: int = 1, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """The process when it has ended, its output in one."""
        asked = self.folder / "request.json"
        asked.write_text(json.dumps(request))
        self._answer.unlink(missing_ok=True)
        return subprocess.run(
            [sys.executable, "-m", "tests.vllm.offline", str(asked), str(self._answer)],
            cwd=ROOT,
            env={**vllm_environment(self.folder, ranks), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            check=False,
        )
