"""The integer layer on CPUs: one-bit products by counting bits, and decoding for many tokens."""

from pathlib import Path

from gpu.cpu.kernel_cache import stamp_kernels

stamp_kernels(Path(__file__).parent)
