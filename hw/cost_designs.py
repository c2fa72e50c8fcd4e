"""What is costed: projections and whole decoders of our codes, and the decoders of peers."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

from amaranth.lib import wiring

from algo.packing import stream_groups
from algo.shipped import ShippedCode
from hw.architecture import Architecture
from hw.decoder import Decoder
from hw.export import verilog_text
from hw.geometry import Geometry
from hw.peers.peer import Peer
from hw.projections import projection_of
from hw.terms import projection_stages

TOP = "decoder"
OURS = "ours"


@dataclass(frozen=True)
class Design:
    """One design to cost.

    Attributes:
        name: of the code, or of the peer.
        source: `OURS`, or what the peer was written from.
        unit: ``projection`` (window bits in, weights out: what a peer's decoder is) or ``decoder``
            (packed words in, weights out).
        architecture: of the projection; empty for a peer.
        lanes: groups, or a peer's windows, per beat.
        rate: bits per weight.
        weights: per output beat.
        cycles: per output beat.
        latency: in clock edges.
        check_cycles: how long runs must be for all of the design to be exercised.
        mse: on N(0, 1), or None where not known.
        mse_note: how it was found.
        build: makes the component.
    """

    name: str
    source: str
    unit: str
    architecture: str
    lanes: int
    rate: float
    weights: int
    cycles: int
    latency: int
    check_cycles: int
    mse: float | None
    mse_note: str
    build: Callable[[], wiring.Component]

    @property
    def per_cycle(self) -> float:
        """Weights per clock cycle."""
        return self.weights / self.cycles

    @property
    def gap_db(self) -> float | None:
        """dB over the bound 2^(-2 rate)."""
        return None if self.mse is None else 10 * math.log10(self.mse * 4**self.rate)

    @property
    def label(self) -> str:
        """Name, unit, architecture and lanes in a line."""
        how = f" {self.architecture}" if self.architecture else ""
        return f"{self.name} {self.unit}{how}, lanes {self.lanes}"

    @cached_property
    def verilog(self) -> str:
        """The design, its top module named `TOP`."""
        return verilog_text(self.build(), TOP)


def projection_design(
    shipped: ShippedCode, name: str, lanes: int, architecture: Architecture
) -> Design:
    """The projection of a code.

    Args:
        shipped: the code and its record.
        name: what to call it.
        lanes: P, groups per beat.
        architecture: of the projection.

    Raises:
        LiftError: `lanes` or `architecture` cannot work.
    """
    code = shipped.code
    # a projection is the same for streams of any length
    least = -(-(code.lifted + code.overlap) // code.lifted)
    geometry = Geometry(code, max(lanes, least), lanes, architecture)
    latency = projection_stages(code, architecture) + geometry.queued
    return Design(
        name=name, source=OURS, unit="projection", architecture=str(architecture), lanes=lanes,
        rate=code.rate, weights=lanes * code.group, cycles=architecture.cycles, latency=latency,
        check_cycles=4 * latency + 8 * architecture.cycles, mse=shipped.mse,
        mse_note=_record(shipped), build=partial(projection_of, geometry),
    )  # fmt: skip


def decoder_design(
    shipped: ShippedCode, name: str, lanes: int, architecture: Architecture, weights: int
) -> Design:
    """The whole decoder of a code, for streams of `weights` weights; else as `projection_design`.

    Raises:
        LiftError: `lanes`, `architecture` or `weights` cannot work.
    """
    groups = stream_groups(weights, shipped.code)
    geometry = Geometry(shipped.code, groups, lanes, architecture)
    return replace(
        projection_design(shipped, name, lanes, architecture), unit="decoder",
        latency=geometry.latency,
        # to the end of the first stream, where windows wrap round, in spite of stalls
        check_cycles=2 * geometry.cycles(1),
        build=partial(Decoder, shipped.code, groups, lanes, architecture),
    )  # fmt: skip


def peer_design(peer: Peer, lanes: int) -> Design:
    """The decoder of another format."""
    return Design(
        name=peer.name, source=peer.source, unit="projection", architecture="", lanes=lanes,
        rate=peer.rate, weights=lanes * peer.weights, cycles=1, latency=peer.latency,
        check_cycles=4 * peer.latency + 8, mse=None if math.isnan(peer.mse) else peer.mse,
        mse_note=peer.mse_note, build=partial(peer.build, lanes),
    )  # fmt: skip


def _record(shipped: ShippedCode) -> str:
    mse = shipped.record["mse"]
    return f"{mse['weights']:,} weights" if "weights" in mse else "as recorded in the code's file"
