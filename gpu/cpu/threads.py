"""Threads of the OpenMP pool that torch itself works with.

A pool of our own would fight with torch's for the processors: OpenMP's threads spin for a while
after their work. So kernels are handed to `GOMP_parallel` of the runtime torch has loaded, and the
threads claim their work from a counter, so that the result does not depend on how many come. Where
no such runtime is found, or after a fork, whose child has no threads, the caller does it all.
"""

import ctypes
import os
import re
from functools import lru_cache
from pathlib import Path

import torch

_forked = False


def _after_fork() -> None:
    global _forked  # noqa: PLW0603
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@lru_cache(maxsize=1)
def parallel_address() -> int:
    """Address of `GOMP_parallel` in the OpenMP runtime of this process; 0 where there is none."""
    for path in (*_loaded_runtimes(), None):
        try:
            # what is loaded already is found again; None is the process itself
            library = ctypes.CDLL(None if path is None else str(path))
            return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value or 0
        except (OSError, AttributeError, TypeError):
            continue
    return 0


def _loaded_runtimes() -> list[Path]:
    """OpenMP runtimes that are in the process, torch's own before those of others."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return []
    fields = (line.split(maxsplit=5) for line in maps.read_text().splitlines())
    paths = {Path(field[5]) for field in fields if len(field) == 6}
    runtimes = [path for path in paths if re.match(r"lib(g|i|)omp", path.name)]
    folder = Path(torch.__file__).parent
    return sorted(runtimes, key=lambda path: (folder not in path.parents, path))


def thread_count() -> int:
    """Threads for the next call: as many as torch uses, or 1."""
    return 1 if _forked or not parallel_address() else torch.get_num_threads()
