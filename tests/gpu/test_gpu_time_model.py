"""Time of kernels from counts: units, limits, sums."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.errors import LiftError
from gpu.gpus import Gpu
from gpu.time_model import Assumptions, Kernel, kernel_time, step_time

# 1 TB/s; 1e12 lane-instructions a second; 2e12 int8 and 1e12 fp16 operations; 1 GHz
GPU = Gpu("round", "sm_0", 10, 1.0, 100, 1.0, 1, 2.0, 1.0, "made up")
FREE = Assumptions(1.0, 1000.0, 1.0, 1.0, 0.0)  # the cache delivers 1 TB/s, too


def test_each_cause_has_its_unit() -> None:
    kernel = Kernel("k", 1, 2e12, lanes=3e12, cache_bytes=7e12, int8_macs=4e12, fp16_macs=5e12)
    time = kernel_time(kernel, GPU, FREE)
    assert time.memory == pytest.approx(2.0)
    assert time.cache == pytest.approx(7.0)
    assert time.issue == pytest.approx(3.0)
    assert time.tensor == pytest.approx(2 * 4 / 2 + 2 * 5 / 1)  # a multiply-accumulate is two
    assert time.fixed == 0.0


def test_shares_divide_and_clocks_add() -> None:
    assumed = Assumptions(0.5, 125.0, 0.25, 0.1, 3e9)
    time = kernel_time(Kernel("k", 1, 1e12, 1e12, 1e12, 1e12), GPU, assumed)
    assert (time.memory, time.cache) == pytest.approx((2.0, 8.0))
    assert (time.issue, time.tensor) == pytest.approx((4.0, 10.0))
    assert time.fixed == pytest.approx(3.0)
    assert time.seconds == pytest.approx(13.0)


@pytest.mark.parametrize(
    ("kernel", "bound"),
    [
        (Kernel("k", 1, 3e12, 2e12, 1e12, 1e12), "memory"),
        (Kernel("k", 1, 1e12, 2e12, 3e12, 1e12), "cache"),
        (Kernel("k", 1, 1e12, 3e12, 2e12, 1e12), "issue"),
        (Kernel("k", 1, 1e12, 2e12, 1e12, 9e12), "tensor"),
    ],
)
def test_the_longest_cause_binds(kernel: Kernel, bound: str) -> None:
    assert kernel_time(kernel, GPU, FREE).bound == bound
    step = step_time([kernel], GPU, FREE)
    assert [cause for cause, seconds in step.by_cause.items() if seconds] == [bound]


def test_infinite_bandwidth_leaves_the_instructions() -> None:
    fast = GPU._replace(bandwidth_tbs=float("inf"))
    kernel = Kernel("k", 1, 1e15, 1e12, 1e11, 1e11)
    assert kernel_time(kernel, GPU, FREE).bound == "memory"
    assert kernel_time(kernel, fast, FREE).bound == "issue"
    assert step_time([kernel], fast, FREE).seconds == pytest.approx(1.0)


def test_a_step_is_the_sum_of_its_launches() -> None:
    kernels = [Kernel("a", 3, 1e12), Kernel("b", 2, 0.0, 5e11)]
    step = step_time(kernels, GPU, replace(FREE, fixed_clocks=1e8))
    assert step.launches == 5
    assert step.memory_bytes == 3e12
    assert step.by_cause == pytest.approx(
        {"memory": 3.0, "cache": 0.0, "issue": 1.0, "tensor": 0.0, "fixed": 0.5, "host": 0.0}
    )
    assert step.seconds == pytest.approx(4.5)


def test_without_graphs_the_host_is_a_floor() -> None:
    kernels = [Kernel("a", 4, 1e12)]
    assert step_time(kernels, GPU, replace(FREE, submit_seconds=0.5)).seconds == pytest.approx(4.0)
    slow = step_time(kernels, GPU, replace(FREE, submit_seconds=2.0))
    assert slow.seconds == pytest.approx(8.0)
    assert slow.by_cause["host"] == pytest.approx(4.0)


@given(
    st.lists(st.tuples(*[st.floats(0, 1e13)] * 5), min_size=1, max_size=6),
    st.integers(0, 4),
)
def test_more_work_never_takes_less_time(works: list[tuple[float, ...]], what: int) -> None:
    kernels = [Kernel("k", 1, *work) for work in works]
    more = [Kernel("k", 1, *(w * (1 + (i == what)) for i, w in enumerate(work))) for work in works]
    assumed = Assumptions(0.9, 700.0, 0.7, 0.6, 1e3)
    assert step_time(more, GPU, assumed).seconds >= step_time(kernels, GPU, assumed).seconds


@pytest.mark.parametrize("what", ["memory_share", "issue_share", "tensor_share"])
@pytest.mark.parametrize("value", [0.0, -1.0, 1.01, float("nan")])
def test_shares_are_shares(what: str, value: float) -> None:
    with pytest.raises(LiftError, match=f"{what} must be above 0 and at most 1"):
        replace(FREE, **{what: value})


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_the_cache_delivers_something(value: float) -> None:
    with pytest.raises(LiftError, match="cache_bytes_per_clock must be positive"):
        replace(FREE, cache_bytes_per_clock=value)


@pytest.mark.parametrize("what", ["fixed_clocks", "submit_seconds"])
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_costs_are_not_negative(what: str, value: float) -> None:
    with pytest.raises(LiftError, match=f"{what} must not be negative"):
        replace(FREE, **{what: value})
