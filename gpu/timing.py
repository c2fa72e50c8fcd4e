"""Time on a GPU: medians of many runs, each from a cold cache.

Everything but `CudaClock` runs on a CPU, with a clock that a test makes up. Written as Liger-Kernel
and Triton's own benchmarks measure: events around every call, the level-2 cache overwritten before
it. While that is done the call is queued, so that the time to launch is hidden where it is shorter;
the overwriting is repeated for that, as some launches take as long as a small kernel runs.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch

from algo.errors import LiftError
from gpu.tuning_table import Timed

LEAST_REPETITIONS = 20
REPETITIONS = 50
WARM_UP = 5
_FLUSHED = 256 * 2**20  # bytes; level-2 caches have 50 MB (H100), 126 MB (B200), 256 MB (MI300X)
_PASSES = 8  # 0.6 ms at 3.35 TB/s: two or three launches are queued in less
_COPIED = 2**29

Timer = Callable[[Callable[[], object]], Timed]


class Clock(Protocol):
    """What `measure` reads."""

    def flush(self) -> None:
        """Leave nothing useful in the cache."""

    def stamp(self) -> Any:
        """A mark in the order of what the device does."""

    def milliseconds(self, start: Any, end: Any) -> float:
        """Between two stamps; waits until both are reached."""


class CudaClock:
    """CUDA (or HIP) events of the current stream. Not run: it needs a GPU."""

    def __init__(self) -> None:
        self._buffer = torch.empty(_FLUSHED // 4, dtype=torch.int32, device="cuda")

    def flush(self) -> None:
        for _ in range(_PASSES):
            self._buffer.zero_()

    def stamp(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def milliseconds(self, start: Any, end: Any) -> float:
        end.synchronize()
        return float(start.elapsed_time(end))


def measure(
    call: Callable[[], object],
    clock: Clock,
    repetitions: int = REPETITIONS,
    warm_up: int = WARM_UP,
) -> Timed:
    """Microseconds of `call`: median, 20th and 80th percentile.

    Args:
        call: what to time; whatever it compiles or allocates the first time is warmed up.
        repetitions: timed calls, at least `LEAST_REPETITIONS`.
        warm_up: calls before, which are not timed.

    Raises:
        LiftError: too few repetitions, or the clock stands still.
    """
    if repetitions < LEAST_REPETITIONS:
        raise LiftError(
            f"{repetitions} repetitions are too few for a median; use {LEAST_REPETITIONS} or more"
        )
    for _ in range(warm_up):
        call()
    stamps = []
    for _ in range(repetitions):
        clock.flush()
        start = clock.stamp()
        call()
        stamps.append((start, clock.stamp()))
    times = torch.tensor([clock.milliseconds(*pair) for pair in stamps], dtype=torch.float64)
    p20, median, p80 = (times.quantile(q).item() * 1000 for q in (0.2, 0.5, 0.8))
    if not p20 > 0:
        raise LiftError(f"a call took {p20:g} microseconds: the clock cannot tell, or stands still")
    return Timed(median=median, p20=p20, p80=p80)


def gpu_timer() -> Timer:
    """`measure` by the clock of the current GPU."""
    clock = CudaClock()
    return lambda call: measure(call, clock)


def copy_bandwidth(timer: Timer, device: torch.device, size: int = _COPIED) -> float:
    """Bytes per second that memory moves in a plain copy of `size` bytes: each read and written.

    What a product's time is compared with: no kernel reads faster than memory is read.
    """
    source = torch.zeros(size, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    return 2 * size / (timer(lambda: target.copy_(source)).median * 1e-6)
