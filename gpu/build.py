"""Compile every kernel for a list of GPUs, without a GPU, and report what it costs.

The figures come from the machine code, not from a run: compiled, not run on a GPU.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module

from algo.errors import LiftError
from gpu.compiling import TARGETS, KernelReport, compile_one
from gpu.job import KernelJob

# modules with a function `jobs`, in the order of the report
MODULES = (
    "gpu.whiten",
    "gpu.quantise",
    "gpu.lift",
    "gpu.bitmm",
    "gpu.project",
    "gpu.fused",
    "gpu.transpose",
    "gpu.decode",
    "gpu.decode_dot",
    "gpu.decode_dot_float",
)


def build(
    targets: Sequence[str] = tuple(TARGETS),
    jobs: Iterable[KernelJob] | None = None,
    done: Callable[[KernelReport], object] = lambda report: None,
) -> list[KernelReport]:
    """Compile kernels for `targets`, in the order given.

    Nothing is left behind: Triton's cache goes to a temporary directory for the duration.

    Args:
        targets: keys of `gpu.compiling.TARGETS`.
        jobs: what to compile; all there is unless given.
        done: called with each report as it is made.

    Raises:
        LiftError: a target is unknown, or none is given.
    """
    check_targets(targets)
    chosen = all_jobs() if jobs is None else list(jobs)
    reports = []
    for target in dict.fromkeys(targets):
        for job in (job for job in chosen if job.suits(target)):
            reports.append(compile_one(job, target))
            done(reports[-1])
    return reports


def check_targets(targets: Sequence[str]) -> None:
    """Raise LiftError where a target is unknown, or none is given."""
    unknown = [target for target in targets if target not in TARGETS]
    if unknown or not targets:
        problem = f"unknown target {unknown[0]!r}" if unknown else "no target given"
        raise LiftError(f"{problem}; known targets are {', '.join(TARGETS)}")


def all_jobs() -> list[KernelJob]:
    """Every kernel in every configuration that is launched.

    Raises:
        LiftError: two jobs have the same name and code.
    """
    listed: list[KernelJob] = []
    for module in MODULES:
        listed += import_module(module).jobs()
    names = [(job.kernel, job.code) for job in listed]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise LiftError(f"two jobs are called {' '.join(twice[0])!r}; give each a name of its own")
    return listed
