"""Small designs with stream ports, for the flow that costs decoders."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.peers.peer import Peer
from hw.stages import stage_moves


class OneStage(wiring.Component):
    """One register between `i` and `o`, which `function` is applied before."""

    def __init__(self, width, output_width, function):
        self.function = function
        self.output_width = output_width
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(width))),
                "o": Out(stream.Signature(unsigned(output_width))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        valids, moves = stage_moves(m, 1, self.i.valid, self.o.ready)
        held = Signal(self.output_width, reset_less=True)
        with m.If(moves[0]):
            m.d.sync += held.eq(self.function(self.i.payload))
        m.d.comb += [
            self.i.ready.eq(moves[0]),
            self.o.valid.eq(valids[0]),
            self.o.payload.eq(held),
        ]
        return m


class Rom(OneStage):
    """Reads a memory of `words` 16-bit words, more than logic is used for."""

    def __init__(self, words):
        self.words = words
        super().__init__((words - 1).bit_length(), 16, None)

    def elaborate(self, platform):
        m = Module()
        contents = [(n * 40503) >> 3 & 0xFFFF for n in range(self.words)]
        m.submodules.rom = rom = Memory(shape=unsigned(16), depth=self.words, init=contents)
        read = rom.read_port()
        valids, moves = stage_moves(m, 1, self.i.valid, self.o.ready)
        m.d.comb += [
            read.addr.eq(self.i.payload),
            read.en.eq(moves[0]),
            self.i.ready.eq(moves[0]),
            self.o.valid.eq(valids[0]),
            self.o.payload.eq(read.data),
        ]
        return m


def subtraction(lanes):
    """Two bits minus a zero point, in every lane."""
    return OneStage(2 * lanes, 2 * lanes, lambda bits: bits ^ (0x55555555 & (1 << 2 * lanes) - 1))


def square(lanes):
    """Six bits times themselves."""
    return OneStage(6 * lanes, 12, lambda bits: bits[:6] * bits[:6])


TINY = Peer("TINY", "a test", 2.0, 1, 2, 1, 0.2, "made up", subtraction)
SQUARE = Peer("SQUARE", "a test", 6.0, 1, 6, 1, 1e-3, "made up", square)
TABLE = Peer("TABLE", "a test", 10.0, 1, 10, 1, float("nan"), "unknown", lambda lanes: Rom(1024))
