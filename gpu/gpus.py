"""GPUs as figures: what a count of instructions or bytes is divided by.

All figures are the vendors' published peaks, none was measured here. The clock is the one assumed
in every time derived from instruction counts: cards lower it under load, and some raise it.
"""

from typing import NamedTuple


class Gpu(NamedTuple):
    """One GPU.

    Attributes:
        name: as people call it.
        target: a key of `gpu.compiling.TARGETS`, the machine code it runs.
        units: streaming multiprocessors (compute units on AMD).
        clock_ghz: assumed clock.
        issue_lanes: lanes of instructions that one unit issues per clock: 4 schedulers of 32 lanes
            on NVIDIA, whether or not all of a kind can start; on AMD 4 SIMDs of 16 lanes take a
            wave of 64 in four clocks.
        bandwidth_tbs: memory, in 10^12 bytes a second.
        memory_gib: memory.
        int8_tops: dense tensor rate, 10^12 operations a second (a multiply-add is two).
        fp16_tflops: the same in fp16 with fp32 accumulators.
        source: where the figures are published.
    """

    name: str
    target: str
    units: int
    clock_ghz: float
    issue_lanes: int
    bandwidth_tbs: float
    memory_gib: int
    int8_tops: float
    fp16_tflops: float
    source: str

    @property
    def lanes_per_second(self) -> float:
        """Lane-instructions issued per second, at most."""
        return self.units * self.issue_lanes * self.clock_ghz * 1e9

    def issue_share(self, lane_instructions: float, read_bytes: float) -> float:
        """Time to issue `lane_instructions` over the time to read `read_bytes` from memory."""
        issue = lane_instructions / self.lanes_per_second
        return issue / (read_bytes / (self.bandwidth_tbs * 1e12))


GPUS: tuple[Gpu, ...] = (
    Gpu(
        "A100 80GB SXM", "sm_80", 108, 1.41, 128, 2.039, 80, 624, 312,
        "NVIDIA A100 datasheet (2,039 GB/s, 624 TOPS); GA100 whitepaper (SMs, boost clock)",
    ),
    Gpu(
        "RTX 4090", "sm_89", 128, 2.52, 128, 1.008, 24, 660.6, 165.2,
        "NVIDIA Ada GPU architecture whitepaper, appendix A",
    ),
    Gpu(
        "H100 SXM", "sm_90", 132, 1.755, 128, 3.35, 80, 1978.9, 989.4,
        "NVIDIA H100 datasheet (dense half of its sparse rates, which assume 1.83 GHz); GH100 "
        "whitepaper (SMs); the clock is the PCIe card's boost, lower than this card's",
    ),
    Gpu(
        "B200", "sm_100", 148, 1.85, 128, 8.0, 180, 4500, 2250,
        "NVIDIA HGX B200 datasheet, an eighth of the board, dense; the clock follows from the "
        "tensor rate (8192 fp16 operations per SM and clock)",
    ),
    Gpu(
        "MI300X", "gfx942", 304, 2.1, 64, 5.3, 192, 2614.9, 1307.4,
        "AMD Instinct MI300X datasheet; CDNA 3 whitepaper",
    ),
)  # fmt: skip


def gpu_for(target: str) -> Gpu | None:
    """The GPU whose machine code `target` is, None where the list has none."""
    return next((gpu for gpu in GPUS if gpu.target == target), None)
