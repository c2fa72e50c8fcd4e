"""How long a GPU takes for a list of kernels, from counts alone: nothing here was measured.

    time of a kernel = max(bytes of memory / bandwidth, bytes of cache / its bandwidth,
                           lane-instructions / issue rate,
                           multiply-accumulates / tensor rate) + fixed cost

every rate being a share of the vendor's peak. The fixed cost is what passes between the work of one
kernel and that of the next: launch, start of the programs, the first loads, the last program. It is
kept in clocks of the GPU, since latencies are; `gpu.speed_checks` sets it from one published
figure. Without CUDA graphs the host must hand over every launch, so a token takes at least that.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from algo.errors import LiftError
from gpu.gpus import Gpu

NOTE = "estimate, nothing was run on a GPU"
CAUSES = ("memory", "cache", "issue", "tensor")  # what a kernel waits for


class Kernel(NamedTuple):
    """One kernel, and how often a decoding step launches it.

    Attributes:
        name: what it does.
        launches: per decoding step, all doing the same.
        memory_bytes: read and written, per launch, each byte once.
        lanes: lane-instructions of its steady loop, per launch.
        cache_bytes: read from the cache that all programs share, per launch, as often as they are.
        int8_macs: int8 multiply-accumulates of tensor instructions, padding included, per launch.
        fp16_macs: the same in fp16.
    """

    name: str
    launches: int
    memory_bytes: float
    lanes: float = 0.0
    cache_bytes: float = 0.0
    int8_macs: float = 0.0
    fp16_macs: float = 0.0


@dataclass(frozen=True)
class Assumptions:
    """What the counts are divided by.

    Attributes:
        memory_share: share of the peak bandwidth that a kernel reaches while it reads.
        cache_bytes_per_clock: what the shared cache delivers.
        issue_share: share of the issue slots that it fills.
        tensor_share: share of the peak tensor rate.
        fixed_clocks: clocks per launch in which nothing else happens.
        submit_seconds: what the host takes for a launch; 0 where a CUDA graph holds them all.

    Raises:
        LiftError: a share is not in (0, 1], a rate is not positive, or a cost is negative.
    """

    memory_share: float
    cache_bytes_per_clock: float
    issue_share: float
    tensor_share: float
    fixed_clocks: float
    submit_seconds: float = 0.0

    def __post_init__(self) -> None:
        for what in ("memory_share", "issue_share", "tensor_share"):
            if not 0 < getattr(self, what) <= 1:
                raise LiftError(f"{what} must be above 0 and at most 1, not {getattr(self, what)}")
        if not self.cache_bytes_per_clock > 0:
            raise LiftError(
                f"cache_bytes_per_clock must be positive, not {self.cache_bytes_per_clock}"
            )
        for what in ("fixed_clocks", "submit_seconds"):
            if not getattr(self, what) >= 0:
                raise LiftError(f"{what} must not be negative, not {getattr(self, what)}")


class KernelTime(NamedTuple):
    """Seconds per launch by cause; they overlap but for the fixed cost."""

    memory: float
    cache: float
    issue: float
    tensor: float
    fixed: float

    @property
    def seconds(self) -> float:
        return max(self.memory, self.cache, self.issue, self.tensor) + self.fixed

    @property
    def bound(self) -> str:
        """One of `CAUSES`, whichever takes longest; the first if equal."""
        return max(CAUSES, key=lambda cause: getattr(self, cause))


@dataclass(frozen=True)
class StepTime:
    """One decoding step.

    Attributes:
        seconds: from token to token.
        by_cause: where they go: `CAUSES` as what each kernel waits for, ``fixed`` as the cost per
            launch, ``host`` as what the host's launches add.
        launches: kernels launched.
        memory_bytes: bytes moved.
    """

    seconds: float
    by_cause: dict[str, float]
    launches: int
    memory_bytes: float


def kernel_time(kernel: Kernel, gpu: Gpu, assumed: Assumptions) -> KernelTime:
    """One launch of `kernel`."""
    clock = gpu.clock_ghz * 1e9
    tensor = 2 * kernel.int8_macs / (gpu.int8_tops * 1e12)
    tensor += 2 * kernel.fp16_macs / (gpu.fp16_tflops * 1e12)
    return KernelTime(
        memory=kernel.memory_bytes / (gpu.bandwidth_tbs * 1e12 * assumed.memory_share),
        cache=kernel.cache_bytes / (assumed.cache_bytes_per_clock * clock),
        issue=kernel.lanes / (gpu.lanes_per_second * assumed.issue_share),
        tensor=tensor / assumed.tensor_share,
        fixed=assumed.fixed_clocks / clock,
    )


def step_time(kernels: Iterable[Kernel], gpu: Gpu, assumed: Assumptions) -> StepTime:
    """All kernels of a decoding step, one after another."""
    by_cause = dict.fromkeys((*CAUSES, "fixed", "host"), 0.0)
    launches, moved = 0, 0.0
    for kernel in kernels:
        time = kernel_time(kernel, gpu, assumed)
        by_cause[time.bound] += kernel.launches * (time.seconds - time.fixed)
        by_cause["fixed"] += kernel.launches * time.fixed
        launches += kernel.launches
        moved += kernel.launches * kernel.memory_bytes
    on_gpu = sum(by_cause.values())
    by_cause["host"] = max(0.0, launches * assumed.submit_seconds - on_gpu)
    return StepTime(on_gpu + by_cause["host"], by_cause, launches, moved)
