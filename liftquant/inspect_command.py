"""``liftquant inspect``: what a checkpoint holds and what it weighs."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from liftquant.console import err, out, print_json

if TYPE_CHECKING:
    from algo.checkpoint import Checkpoint


@dataclass(frozen=True)
class Kind:
    """Layers alike in shape, axis and code."""

    shape: tuple[int, int]
    axis: str
    code: str
    layers: int
    bits_per_weight: float
    names: list[str]


@dataclass(frozen=True)
class Summary:
    """Sizes of a checkpoint.

    Attributes:
        bits_per_weight: of the quantised layers: words, scales and whitening over their weights.
        bytes: by kind; they add up to `disk_bytes`.
        disk_bytes: size of the safetensors files.
    """

    folder: str
    source: str
    layers: int
    weights: int
    code_bits_per_weight: float
    bits_per_weight: float
    bytes: dict[str, int]
    disk_bytes: int
    codes: dict[str, str]
    kinds: list[Kind]


def checkpoint_summary(checkpoint: "Checkpoint") -> Summary:
    """Count a checkpoint's layers, bits and bytes."""
    from algo.matrix import SCALE_BITS, word_shape
    from algo.packing import WORD

    manifest = checkpoint.manifest
    kinds: dict[tuple[tuple[int, int], str, str], list[str]] = {}
    for name, entry in manifest.layers.items():
        kinds.setdefault((entry.shape, entry.axis, entry.code), []).append(name)
    rows = []
    for (shape, axis, code_name), names in kinds.items():
        code = checkpoint.codes[code_name]
        bits = math.prod(word_shape(shape, code, axis)) * WORD + shape[0] * SCALE_BITS
        rows.append(Kind(shape, axis, code_name, len(names), bits / (shape[0] * shape[1]), names))
    weights = sum(k.shape[0] * k.shape[1] * k.layers for k in rows)
    coded = sum(k.shape[0] * k.shape[1] * k.layers * checkpoint.codes[k.code].rate for k in rows)
    sizes = checkpoint.payload_bytes()
    quantised = sizes["words"] + sizes["scales"] + sizes["whitening"]
    return Summary(
        folder=str(checkpoint.folder),
        source=manifest.source,
        layers=len(manifest.layers),
        weights=weights,
        code_bits_per_weight=coded / weights,
        bits_per_weight=quantised * 8 / weights,
        bytes=sizes,
        disk_bytes=sum(sizes.values()),
        codes={name: code.sha256 for name, code in checkpoint.codes.items()},
        kinds=rows,
    )


def summary_table(summary: Summary) -> Table:
    """The summary for people."""
    table = Table(title=f"{summary.folder}: {summary.layers} layers", title_justify="left")
    for heading in ("shape", "axis", "code", "layers", "bits per weight"):
        table.add_column(heading, justify="left" if heading in ("axis", "code") else "right")
    alike: dict[tuple[tuple[int, int], str], list[Kind]] = {}
    for kind in summary.kinds:
        alike.setdefault((kind.shape, kind.axis), []).append(kind)
    for ((rows, columns), axis), kinds in alike.items():
        count = sum(kind.layers for kind in kinds)
        each = sorted(kind.bits_per_weight for kind in kinds)
        mean = sum(kind.bits_per_weight * kind.layers for kind in kinds) / count
        code = kinds[0].code if len(kinds) == 1 else f"{len(kinds)} codes"
        spread = "" if len(kinds) == 1 else f"{each[0]:.3f} to {each[-1]:.3f}, mean "
        table.add_row(f"{rows}x{columns}", axis, code, str(count), f"{spread}{mean:.3f}")
    table.add_row("all", "", "", str(summary.layers), f"{summary.bits_per_weight:.3f}")
    parts = ", ".join(f"{kind} {size:,}" for kind, size in summary.bytes.items())
    table.caption = (
        f"{summary.weights:,} weights; the code alone {summary.code_bits_per_weight:.3f} bits, "
        f"with padding, scales and whitening {summary.bits_per_weight:.3f}.\n"
        f"{summary.disk_bytes:,} bytes in safetensors files: {parts}."
    )
    table.caption_justify = "left"
    return table


def layer_table(checkpoint: "Checkpoint", summary: Summary) -> Table:
    """Every layer with its code, its bits and the error that calibration measured."""
    table = Table(title="layers", title_justify="left")
    for heading in ("layer", "shape", "code", "bits per weight", "relative error"):
        table.add_column(heading, justify="left" if heading in ("layer", "code") else "right")
    bits = {name: kind.bits_per_weight for kind in summary.kinds for name in kind.names}
    for name, entry in checkpoint.manifest.layers.items():
        error = "" if entry.proxy_error is None else f"{entry.proxy_error:.5f}"
        shape = f"{entry.shape[0]}x{entry.shape[1]}"
        table.add_row(name, shape, entry.code, f"{bits[name]:.3f}", error)
    return table


def inspect(
    folder: Annotated[Path, typer.Argument(help="A checkpoint directory.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash every file and decode every layer as well.")
    ] = False,
    layers: Annotated[bool, typer.Option("--layers", help="List the layers by name.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show what a checkpoint holds: layers, codes, true bits per weight, bytes on disk."""
    from algo.checkpoint import Checkpoint

    checkpoint = Checkpoint(folder)
    if verify:
        checkpoint.verify()
        for name in checkpoint.manifest.layers:
            checkpoint.matrix(name).accumulators()
        err.print(f"{len(checkpoint.manifest.files)} files hash as stated; every layer decodes")
    summary = checkpoint_summary(checkpoint)
    if json:
        print_json(asdict(summary))
    else:
        out.print(summary_table(summary))
        if layers:
            out.print(layer_table(checkpoint, summary))
