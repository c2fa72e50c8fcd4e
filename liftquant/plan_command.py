"""``liftquant plan``: the highest bit-width that fits a memory budget."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from liftquant.console import out, print_json, progress

if TYPE_CHECKING:
    from algo.plan import Choice, Plan

_PARTS = {
    "words": "packed weights",
    "scales": "row scales",
    "transforms": "whitening",
    "embedding": "embedding",
    "head": "head",
    "other": "norms and the rest",
    "kv_cache": "KV cache",
    "activations": "activations",
    "logits": "logits",
    "reserve": "reserve",
}


def _choice_fields(choice: "Choice") -> dict[str, Any]:
    memory, disk = asdict(choice.memory), asdict(choice.checkpoint)
    return {
        "rate": choice.rate,
        "bits_per_weight": choice.bits_per_weight,
        "memory_bytes": {**memory, "total": choice.memory.total},
        "left_bytes": choice.left_bytes,
        "checkpoint_bytes": {**disk, "total": choice.checkpoint.total},
        "groups": dict(choice.groups),
    }


def plan_fields(model: str, plan: "Plan") -> dict[str, Any]:
    """The plan as JSON values."""
    return {
        "model": model,
        "budget": asdict(plan.budget),
        "axis": plan.layout.axis,
        "weights": plan.weights,
        "uniform": _choice_fields(plan.uniform),
        "allocated": _choice_fields(plan.allocated),
        "host_bytes": plan.host_bytes,
        "assumptions": list(plan.assumptions),
    }


def _codes(choice: "Choice") -> str:
    return ", ".join(f"{code} x{len(groups)}" for code, groups in choice.groups.items())


def plan_table(model: str, plan: "Plan") -> Table:
    """The plan for people: one row per part, bytes of both ways to fill the budget."""
    from algo.sizes import format_size

    choices = (plan.uniform, plan.allocated)
    budget = format_size(plan.budget.total_bytes)
    table = Table(title=f"{model} in {budget}: {plan.weights:,} weights", title_justify="left")
    table.add_column("bytes on the GPU")
    for heading in ("uniform", "", "allocated", ""):
        table.add_column(heading, justify="right")

    def row(label: str, cells: list[str], end: bool = False) -> None:
        table.add_row(label, *cells, end_section=end)

    def sized(sizes: list[int]) -> list[str]:
        return [text for size in sizes for text in (f"{size:,}", format_size(size))]

    for part, label in _PARTS.items():
        sizes = [getattr(choice.memory, part) for choice in choices]
        row(label, sized(sizes), end=part == "reserve")
    row("total", sized([c.memory.total for c in choices]))
    row("left", sized([c.left_bytes for c in choices]), end=True)
    row("checkpoint on disk", sized([c.checkpoint.total for c in choices]), end=True)
    row("bits per weight", [t for c in choices for t in (f"{c.rate:.4f}", "")])
    row("with padding, scales", [t for c in choices for t in (f"{c.bits_per_weight:.4f}", "")])
    return table


def plan_notes(plan: "Plan") -> list[str]:
    """What belongs under the table: codes used, the host's share, assumptions."""
    return [
        f"Input groups by code: uniform {_codes(plan.uniform)}; allocated "
        f"{_codes(plan.allocated)}.",
        *([f"In the host's memory: {plan.host_bytes:,} bytes."] if plan.host_bytes else []),
        "Assumed:",
        *(f"- {line}" for line in plan.assumptions),
    ]


def plan(
    model: Annotated[
        str,
        typer.Argument(
            help="A config.json, a model directory, a .gguf file or a hub id; no weights needed."
        ),
    ],
    vram: Annotated[str, typer.Option(help="Memory of the GPU: 24GiB (2**30) or 24GB (10**9).")],
    context: Annotated[int, typer.Option(min=1, help="Tokens per sequence.")] = 8192,
    batch: Annotated[int, typer.Option(min=1, help="Sequences at a time.")] = 1,
    kv_bits: Annotated[int, typer.Option(help="Bits per number in the KV cache.")] = 16,
    head_bits: Annotated[int, typer.Option(help="Bits per weight of the output layer.")] = 16,
    embedding_bits: Annotated[
        int, typer.Option(help="Bits per weight of the token embedding, unless it is tied.")
    ] = 16,
    embedding: Annotated[
        str, typer.Option(help="Where the token embedding is kept: gpu or host.")
    ] = "gpu",
    chunk: Annotated[int, typer.Option(min=1, help="Tokens of a prompt per forward step.")] = 512,
    reserve: Annotated[
        str, typer.Option(help="For the CUDA context, fragmentation and the runtime.")
    ] = "0.6GiB",
    bits: Annotated[
        float | None, typer.Option(help="Plan for this rate instead of the highest that fits.")
    ] = None,
    axis: Annotated[
        str, typer.Option(help="Direction of the streams: out (columns) or in (rows).")
    ] = "out",
    carried_dtype: Annotated[
        str | None,
        typer.Option(help="On disk, dtype of what is not quantised: float32, float16, bfloat16."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Find the highest bits per weight at which a model fits, and show where every byte goes.

    Uniform: one rate for all layers. Allocated: the next rate too, for as many groups as fit.
    """
    from algo.budget import PLACES, Budget
    from algo.errors import LiftError
    from algo.footprint import Layout
    from algo.matrix import AXES
    from algo.plan import plan_model
    from algo.shapes import DTYPES, read_shapes
    from algo.sizes import parse_size
    from liftquant.libraries import quiet_transformers

    places = [p for p in PLACES if p == embedding]
    axes = [a for a in AXES if a == axis]
    if not places:
        raise LiftError(f"--embedding {embedding} is none of {', '.join(PLACES)}")
    if not axes:
        raise LiftError(f"--axis {axis} is none of {', '.join(AXES)}")
    if carried_dtype is not None and carried_dtype not in DTYPES:
        raise LiftError(f"--carried-dtype {carried_dtype} is none of {', '.join(DTYPES)}")
    budget = Budget(
        total_bytes=parse_size(vram),
        context=context,
        batch=batch,
        kv_bits=kv_bits,
        head_bits=head_bits,
        embedding_bits=embedding_bits,
        embedding=places[0],
        chunk=chunk,
        reserve_bytes=parse_size(reserve),
    )
    quiet_transformers()
    with progress(f"planning {model}"):
        shapes = read_shapes(model, None if carried_dtype is None else DTYPES[carried_dtype])
        made = plan_model(shapes, budget, Layout(axes[0]), bits)
    if json:
        print_json(plan_fields(model, made))
    else:
        out.print(plan_table(model, made))
        out.print("\n".join(plan_notes(made)))
