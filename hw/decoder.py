"""The streaming decoder: packed words in, integer weights out."""

from typing import Any

from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from algo.code import LiftCode
from hw.architecture import DEFAULT, Architecture, as_architecture
from hw.gearbox import Gearbox
from hw.geometry import Geometry
from hw.projections import projection_of
from hw.window import Window


class Decoder(wiring.Component):  # type: ignore[misc]
    """Decodes streams of one code and length, exactly as `algo.decode.decode_words` does.

    Clock ``clk``, synchronous reset ``rst``. Throughput: one output beat (P groups) per cycle (per
    C cycles in architecture ``shared``), over the ends of streams too, while input is valid and
    output ready.

    Ports:
        i: stream In, payload of 32*W bits: W words of the stream, the first in the low bits. A
            stream takes `beats_in` beats; words after its last and padding bits are ignored.
        o: stream Out, payload of 12*P*d bits: weight n of the beat, n = lane*d + i, is the signed
            integer in bits [12n, 12n + 12). A stream gives `beats_out` beats; in the last one,
            lanes beyond the last group are unspecified.

    Args:
        code: the code to decode.
        groups: G, groups per stream.
        lanes: P, groups per output beat.
        architecture: how the projection is built, or its text (`parse_architecture`); what a
            decoder gives does not depend on it, only `latency` and `cycles` do.

    Raises:
        LiftError: lanes, groups or architecture cannot work; the message names the value and the
            remedy.
    """

    def __new__(
        cls,
        code: LiftCode,
        groups: int,
        lanes: int = 1,
        architecture: Architecture | str = DEFAULT,
        **kwargs: Any,
    ) -> "Decoder":
        # before Amaranth sees an object, or it would warn that a rejected one was never used
        Geometry(code, groups, lanes, as_architecture(architecture))
        kwargs["src_loc_at"] = kwargs.get("src_loc_at", 0) + 1
        made: Decoder = super().__new__(cls, code, groups, lanes, architecture, **kwargs)
        return made

    def __init__(
        self,
        code: LiftCode,
        groups: int,
        lanes: int = 1,
        architecture: Architecture | str = DEFAULT,
    ) -> None:
        self.geometry = Geometry(code, groups, lanes, as_architecture(architecture))
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(self.geometry.beat_bits))),
                "o": Out(stream.Signature(unsigned(self.geometry.payload_bits))),
            }
        )

    @property
    def latency(self) -> int:
        """Clock edges from the one that takes a stream's first beat to the one that transfers its
        first output beat (`Geometry.latency`).
        """
        return self.geometry.latency

    @property
    def beats_in(self) -> int:
        """Input beats per stream."""
        return self.geometry.beats_in

    @property
    def beats_out(self) -> int:
        """Output beats per stream."""
        return self.geometry.beats_out

    def cycles(self, streams: int) -> int:
        """Clock edges for back-to-back streams without stalls (`Geometry.cycles`)."""
        return self.geometry.cycles(streams)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.gearbox = gearbox = Gearbox(self.geometry)
        m.submodules.window = window = Window(self.geometry)
        m.submodules.projection = projection = projection_of(self.geometry)
        wiring.connect(m, wiring.flipped(self.i), gearbox.i)
        wiring.connect(m, gearbox.o, window.i)
        wiring.connect(m, window.o, projection.i)
        wiring.connect(m, projection.o, wiring.flipped(self.o))
        return m
