"""The projection of a geometry, whatever its architecture and flow control."""

from amaranth.lib import wiring

from hw.credit import Credited
from hw.geometry import Geometry
from hw.projection import Projection
from hw.shared import SharedProjection


def projection_of(geometry: Geometry) -> wiring.Component:
    """A component with `window_bits` in at ``i`` and `sums_bits` out at ``o``, as `Projection`.

    Latency: `projection_stages(code, architecture)` edges, one more where `queued`. Throughput:
    one beat per `cycles` of the architecture.
    """
    kind = SharedProjection if geometry.architecture.kind == "shared" else Projection
    projection = kind(geometry)
    return Credited(geometry, projection) if geometry.queued else projection
