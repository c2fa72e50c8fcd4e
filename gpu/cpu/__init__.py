"""The integer layer on CPUs: one-bit products by counting bits, and decoding for many tokens."""

from pathlib import Path

from gpu.cpu.stale import remove_stale

remove_stale(Path(__file__).parent)
