"""A decoder from a command line, and what reports say of it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hw.geometry import Geometry


def decoder_geometry(code: str, weights: int, lanes: int, architecture: str) -> "Geometry":
    """A decoder from what the command line says of it."""
    from algo.packing import stream_groups
    from algo.shipped import find_code
    from hw.architecture import parse_architecture
    from hw.geometry import Geometry

    chosen = find_code(code)
    groups = stream_groups(weights, chosen)
    return Geometry(chosen, groups, lanes, parse_architecture(architecture))


def described(geometry: "Geometry") -> dict[str, Any]:
    """A decoder as JSON values."""
    return {
        "code": geometry.code.name,
        "code_sha256": geometry.code.sha256,
        "groups": geometry.groups,
        "lanes": geometry.lanes,
        "architecture": str(geometry.architecture),
    }


def geometry_line(geometry: "Geometry") -> str:
    """A decoder for people."""
    return (
        f"{geometry.code.name} by {geometry.architecture}, streams of {geometry.groups} groups, "
        f"{geometry.lanes} per beat"
    )
