"""``liftquant rtl vectors``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from liftquant.console import err, out

if TYPE_CHECKING:
    from algo.code import LiftCode
    from sim.vectors import Vectors


def stored_vectors(
    checkpoint: Path | None, layer: str | None, code: "LiftCode", groups: int, streams: int
) -> "Vectors | None":
    """Streams of a layer where ``--checkpoint`` and ``--layer`` name one."""
    from algo.errors import LiftError
    from sim.vectors import layer_vectors

    if checkpoint is None and layer is None:
        return None
    if checkpoint is None or layer is None:
        raise LiftError("--checkpoint DIR and --layer NAME go together; give both")
    return layer_vectors(checkpoint, layer, code, groups, streams)


def vectors(
    code: Annotated[str, typer.Argument(help="A code's name, say LQ-24/10, or a code file.")],
    folder: Annotated[Path, typer.Argument(help="Directory for the files.")],
    weights: Annotated[int, typer.Option(min=1, help="Weights in one stream.")],
    streams: Annotated[
        int, typer.Option(min=0, help="Random streams, besides the corner cases.")
    ] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random streams.")] = 0,
    checkpoint: Annotated[Path | None, typer.Option(help="Also take streams of this one.")] = None,
    layer: Annotated[str | None, typer.Option(help="The layer to take them from.")] = None,
) -> None:
    """Write golden vectors for a decoder's own bench: .hex, .mem, .json and a README.

    Corner streams come first, then random ones, then as many of the layer, if one is named.
    """
    from algo.packing import stream_groups
    from algo.shipped import find_code
    from sim.golden import write_golden
    from sim.vectors import corner_vectors, random_vectors

    chosen = find_code(code)
    groups = stream_groups(weights, chosen)
    made = corner_vectors(chosen, groups) + random_vectors(chosen, groups, streams, seed)
    stored = stored_vectors(checkpoint, layer, chosen, groups, streams)
    if stored is not None:
        made += stored
    for path in write_golden(folder, chosen, groups, made):
        out.print(str(path), soft_wrap=True)
    err.print(f"{chosen.name}: {len(made.names)} streams of {groups} groups, seed {seed}")
