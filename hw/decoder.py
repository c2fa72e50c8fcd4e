"""The streaming decoder: packed words in, integer weights out."""

from typing import Any

from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from algo.code import LiftCode
from hw.architecture import DEFAULT, Architecture, as_architecture
from hw.counting import last_of
from hw.gearbox import Gearbox
from hw.geometry import Geometry
from hw.output import ACC_WIDTH, SUMS, Output
from hw.projections import projection_of
from hw.requantise import Requantise
from hw.resize import Resize
from hw.window import Window


class Decoder(wiring.Component):  # type: ignore[misc]
    """Decodes streams of one code and length, exactly as `algo.decode.decode_words` does.

    Clock ``clk``, synchronous reset ``rst``. Throughput: one output beat (P groups) per cycle (per
    C cycles in architecture ``shared``), over the ends of streams too, while input is valid and
    output ready.

    Ports:
        i: stream In, payload of 32*W bits: W words of the stream, the first in the low bits. A
            stream takes `beats_in` beats; words after its last and padding bits are ignored.
        o: stream Out, payload of w*P*d bits, w = 12 unless `output` says otherwise: weight n of the
            beat, n = lane*d + i, is the signed integer in bits [wn, wn + w). A stream gives
            `beats_out` beats; in the last one, lanes beyond the last group are unspecified.
        scale: stream In of multipliers, only where `output` requantises: one beat per stream on
            axis ``in``, one per output beat on axis ``out`` (`hw.requantise`).
        last: Out, only with `mark_last`: high while the beat at ``o`` is the last of its stream.

    Args:
        code: the code to decode.
        groups: G, groups per stream.
        lanes: P, groups per output beat.
        architecture: how the projection is built, or its text (`parse_architecture`); what a
            decoder gives does not depend on it, only `latency` and `cycles` do.
        output: width and scaling of the weights.
        mark_last: add the port ``last``.

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
        output: Output = SUMS,
        mark_last: bool = False,
        **kwargs: Any,
    ) -> "Decoder":
        # before Amaranth sees an object, or it would warn that a rejected one was never used
        Geometry(code, groups, lanes, as_architecture(architecture))
        kwargs["src_loc_at"] = kwargs.get("src_loc_at", 0) + 1
        made: Decoder = super().__new__(
            cls, code, groups, lanes, architecture, output, mark_last, **kwargs
        )
        return made

    def __init__(
        self,
        code: LiftCode,
        groups: int,
        lanes: int = 1,
        architecture: Architecture | str = DEFAULT,
        output: Output = SUMS,
        mark_last: bool = False,
    ) -> None:
        self.mark_last = mark_last
        self.geometry = Geometry(code, groups, lanes, as_architecture(architecture), output)
        ports = {
            "i": In(stream.Signature(unsigned(self.geometry.beat_bits))),
            "o": Out(stream.Signature(unsigned(self.geometry.payload_bits))),
        }
        if self.geometry.output.scale is not None:
            ports["scale"] = In(stream.Signature(unsigned(self.geometry.scale_bits)))
        if mark_last:
            ports["last"] = Out(1)
        super().__init__(ports)

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
        weights = self._finish(m, projection.o)
        wiring.connect(m, weights, wiring.flipped(self.o))
        if self.mark_last:
            given = self.o.valid & self.o.ready
            m.d.comb += self.last.eq(last_of(m, self.beats_out, given, "beats_left"))
        return m

    def _finish(self, m: Module, sums: Any) -> Any:
        """The stream of weights that a stream of sums becomes."""
        output = self.geometry.output
        if output.scale is not None:
            m.submodules.requantise = requantise = Requantise(self.geometry, output.scale)
            wiring.connect(m, wiring.flipped(self.scale), requantise.scale)
            wiring.connect(m, sums, requantise.i)
            return requantise.o
        if output.width != ACC_WIDTH:
            m.submodules.resize = resize = Resize(self.geometry)
            wiring.connect(m, sums, resize.i)
            return resize.o
        return sums
