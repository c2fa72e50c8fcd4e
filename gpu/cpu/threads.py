"""Threads of the OpenMP pool that torch itself works with.

A pool of our own would fight with torch's for the processors: OpenMP's threads spin for a while
after their work. So kernels are handed to `GOMP_parallel` of the runtime torch has loaded, and the
threads claim their work from a counter, so that the result does not depend on how many come. Where
no such runtime is found, or after a fork, whose child has no threads, the caller does it all.
"""

import ctypes
import os
from functools import lru_cache
from pathlib import Path

import torch

_forked = False


def _after_fork() -> None:
    global _forked  # noqa: PLW0603
    _forked = True


os.register_at_fork(after_in_child=_after_fork)


@lru_cache(maxsize=1)
def parallel_address() -> int:
    """Address of `GOMP_parallel` in the OpenMP runtime of this process; 0 where there is none."""
    folder = Path(torch.__file__).parent / "lib"
    for path in (*sorted(folder.glob("libgomp*")), *sorted(folder.glob("lib*omp*.so*")), None):
        try:
            # what is loaded already is found again; None is the process itself
            library = ctypes.CDLL(None if path is None else str(path))
            return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value or 0
        except (OSError, AttributeError):
            continue
    return 0


def thread_count() -> int:
    """Threads for the next call: as many as torch uses, or 1."""
    return 1 if _forked or not parallel_address() else torch.get_num_threads()
