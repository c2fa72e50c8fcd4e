"""A codebook of 65536 vectors, as AQLM 1x16 reads one: eight weights of 16 bits (arXiv 2401.06118).

Entries are learned and of no structure, so a decoder can only store them; eight bits an entry are
assumed here, where the paper stores 16. What they are does not matter to what they cost: they are
the bytes of a fixed mix of the index.
"""

import numpy as np
from amaranth.hdl import Module, Value
from amaranth.lib.memory import Memory

from hw.peers.lanes import Integers, LaneDecoder, Pipeline


class Codebook(LaneDecoder):
    """A memory of 65536 words of 64 bits, which two lanes share, and a register behind it.

    Verilog states each word by itself: 8192 words of four bits took yosys 14 s so, and 2 s read as
    RTLIL. Read as RTLIL the whole codebook took 153 s: 228 block RAMs and 2149 LUT to choose
    between them.
    """

    bits, weights, width, stages = 16, 8, 8, 2

    def prepare(self, m: Module) -> None:
        init = entries().tolist()
        m.submodules.table = Memory(
            shape=64, depth=1 << 16, init=init, attrs={"syn_romstyle": "EBR", "rom_style": "block"}
        )
        self._table = m.submodules.table

    def lane(self, m: Module, pipe: Pipeline, window: Value) -> Value:
        port = self._table.read_port()
        m.d.comb += [port.addr.eq(window), port.en.eq(pipe.move(0))]
        return pipe.held(1, "weights", port.data)

    @staticmethod
    def reference(windows: Integers) -> Integers:
        octets = entries()[windows].astype("<u8").view(np.int8)
        return octets.reshape(-1, 8).astype(np.int64)


def entries() -> np.ndarray:
    """uint64 ``(65536,)``: the index through multiplications and XORs, eight bytes each."""
    mixed = (np.arange(1 << 16, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for places, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ mixed >> np.uint64(places)) * np.uint64(factor)
    return mixed ^ mixed >> np.uint64(31)
