"""A whole layer in integers: activations and sign bits in, requantised outputs out."""

from typing import Any

from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from algo.code import LiftCode
from hw.engine_accumulate import SignAccumulate
from hw.engine_geometry import EngineGeometry
from hw.engine_project import Project
from hw.engine_requantise import SerialRequantise
from hw.output import Output


class Engine(wiring.Component):  # type: ignore[misc]
    """The integer product of a matrix on axis ``out`` with vectors of int8 activations, exactly as
    `algo.activations.integer_product` of one digit, then `requantise`. It holds no multiplier.

    Clock ``clk``, synchronous reset ``rst``, which forgets all vectors in flight. Throughput: K
    sign bits (K*d/D weights) per cycle while rows stream; `cycles` counts what lies between.

    Ports:
        act: stream In, payload of `activation_bits`: 4*B int8 activations of the vector in order,
            none of them -128; those of columns beyond the layer are 0. `activation_beats` a vector.
        i: stream In, K sign bits, bit l of column tile*K + l: tile by tile the rows of the one-bit
            matrix, G*D beats each, again for every vector. Bits of columns beyond the layer are
            ignored.
        scale: stream In, only where `output` requantises: the multiplier of each row, for every
            vector again.
        o: stream Out, `payload_bits`: a signed integer per row, row 0 first.

    Args:
        code: of the weights, without parities.
        rows, columns: outputs and inputs of the layer.
        lanes: K, a multiple of 4 for every builder.
        builders: B, tables that are written at a time.
        output: width and scaling of the outputs, its scale on axis ``out``; None gives the sums.

    Raises:
        LiftError: a value cannot work; the message names it and the remedy.
    """

    def __new__(
        cls,
        code: LiftCode,
        rows: int,
        columns: int,
        lanes: int,
        builders: int = 1,
        output: Output | None = None,
        **kwargs: Any,
    ) -> "Engine":
        # before Amaranth sees an object, or it would warn that a rejected one was never used
        EngineGeometry(code, rows, columns, lanes, builders, output)
        kwargs["src_loc_at"] = kwargs.get("src_loc_at", 0) + 1
        made: Engine = super().__new__(cls, code, rows, columns, lanes, builders, output, **kwargs)
        return made

    def __init__(
        self,
        code: LiftCode,
        rows: int,
        columns: int,
        lanes: int,
        builders: int = 1,
        output: Output | None = None,
    ) -> None:
        self.geometry = EngineGeometry(code, rows, columns, lanes, builders, output)
        ports = {
            "act": In(stream.Signature(unsigned(self.geometry.activation_bits))),
            "i": In(stream.Signature(unsigned(lanes))),
            "o": Out(stream.Signature(unsigned(self.geometry.payload_bits))),
        }
        if output is not None and output.scale is not None:
            ports["scale"] = In(stream.Signature(unsigned(output.scale.multiplier_bits)))
        super().__init__(ports)

    def cycles(self, vectors: int) -> int:
        """Clock edges from the first activation beat to the last output (`EngineGeometry`)."""
        return self.geometry.cycles(vectors)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self.geometry
        m.submodules.accumulate = accumulate = SignAccumulate(geometry)
        m.submodules.project = project = Project(geometry)
        wiring.connect(m, wiring.flipped(self.act), accumulate.act)
        wiring.connect(m, wiring.flipped(self.i), accumulate.i)
        m.d.comb += [
            project.complete.eq(accumulate.complete),
            project.data.eq(accumulate.data),
            accumulate.row.eq(project.row),
            accumulate.release.eq(project.release),
        ]
        output = geometry.output
        sums = project.o
        if output is not None and output.scale is not None:
            m.submodules.requantise = requantise = SerialRequantise(geometry, output, output.scale)
            wiring.connect(m, project.o, requantise.i)
            wiring.connect(m, wiring.flipped(self.scale), requantise.scale)
            sums = requantise.o
        wiring.connect(m, sums, wiring.flipped(self.o))
        return m
