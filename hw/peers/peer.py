"""What a comparison needs to know of another format's decoder."""

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.lib import wiring


@dataclass(frozen=True)
class Peer:
    """Another format's decoder.

    Attributes:
        name: short, for tables and plots.
        source: the paper or format it was written from.
        rate: bits per weight that are stored, without scales.
        weights: per lane and beat.
        bits: window bits per lane and beat; windows of neighbouring lanes do not share bits here.
        latency: edges from taking a window to being able to transfer its weights at the next.
        mse: on N(0, 1) with the best encoder and the best scale known; NaN where not measured.
        mse_note: how `mse` was found.
        build: the decoder of so many lanes: a component with stream ports ``i`` (payload of
            ``lanes * bits``, flat) and ``o`` (payload of ``lanes * weights`` equally wide weights,
            flat), one beat per cycle.
    """

    name: str
    source: str
    rate: float
    weights: int
    bits: int
    latency: int
    mse: float
    mse_note: str
    build: Callable[[int], wiring.Component]
