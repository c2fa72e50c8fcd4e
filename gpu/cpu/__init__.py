"""The integer layer on CPUs: one-bit products by counting bits, and decoding for many tokens."""
