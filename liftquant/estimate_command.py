"""``liftquant kernels estimate``: predicted decoding speed beside what others published."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from liftquant.console import out, print_json, progress

if TYPE_CHECKING:
    from algo.shapes import ModelShapes


def _listed(text: str, option: str) -> list[str]:
    from algo.errors import LiftError

    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise LiftError(f"{option} names nothing")
    return list(dict.fromkeys(names))


def _numbers(text: str) -> list[float]:
    from algo.errors import LiftError

    try:
        return [float(number) for number in _listed(text, "--bits")]
    except ValueError:
        raise LiftError(f"--bits {text} must be numbers separated by commas, say 2,2.4,3") from None


def _choice(value: str, known: tuple[Any, ...], option: str) -> Any:
    from algo.errors import LiftError

    if value not in known:
        raise LiftError(f"{option} {value} is none of {', '.join(known)}")
    return value


def _shapes(model: str) -> "ModelShapes":
    from gpu.llama_models import MODELS, llama_shapes

    if model in MODELS:
        return llama_shapes(MODELS[model])
    from algo.errors import LiftError
    from algo.shapes import read_shapes
    from liftquant.libraries import quiet_transformers

    if "/" not in model and "." not in model and not Path(model).exists():
        raise LiftError(
            f"model {model!r} is none of {', '.join(MODELS)}, nor a config.json, a model directory "
            "or a .gguf file"
        )
    quiet_transformers()
    with progress(f"reading {model}"):
        return read_shapes(model)


def estimate(
    model: Annotated[
        str,
        typer.Option(
            help="llama-3-8b, llama-3-70b, llama-2-7b, llama-2-70b, mistral-7b, a config.json, a "
            "model directory or a .gguf file; several separated by commas."
        ),
    ] = "llama-3-8b,llama-3-70b",
    gpu: Annotated[
        str, typer.Option(help="rtx-4090, a100, h100, b200, separated by commas.")
    ] = "rtx-4090,a100,h100",
    bits: Annotated[str, typer.Option(help="Bits per weight, separated by commas.")] = "2,2.4,3",
    batch: Annotated[int, typer.Option(help="Sequences at a time.")] = 1,
    context: Annotated[int, typer.Option(help="Tokens that each sequence attends to.")] = 1024,
    axis: Annotated[str, typer.Option(help="Direction of the streams: out or in.")] = "out",
    activations: Annotated[str, typer.Option(help="a8 or a15: one or two int8 digits.")] = "a15",
    head_bits: Annotated[int, typer.Option(help="Bits per weight of the output layer.")] = 16,
    kv_bits: Annotated[int, typer.Option(help="Bits per number in the KV cache.")] = 16,
    embedding: Annotated[
        str, typer.Option(help="Where the token embedding is kept: gpu or host.")
    ] = "gpu",
    graphs: Annotated[bool, typer.Option(help="Launches are held by CUDA graphs.")] = True,
    fused: Annotated[bool, typer.Option(help="The projection is fused in the product.")] = True,
    report: Annotated[
        Path | None,
        typer.Option(help="Compile report to take instructions from; the committed one if absent."),
    ] = None,
    checks: Annotated[
        bool, typer.Option("--checks", help="Show what the model says of every published figure.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a picture, FILE.svg.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Predict tokens per second from bytes, instructions and launches. Nothing is run on a GPU."""
    from algo.budget import PLACES
    from algo.errors import LiftError
    from algo.matrix import AXES
    from gpu.decoding_work import Decoding
    from gpu.product_costs import REPORT, read_product_costs
    from gpu.speed_checks import gpu_named
    from liftquant.estimate_table import check_table, notes, speed_tables
    from liftquant.estimating import Question, answer

    if plot is not None and plot.suffix != ".svg":
        raise LiftError(f"--plot {plot} must end in .svg")
    how = Decoding(
        batch=batch,
        context=context,
        axis=_choice(axis, AXES, "--axis"),
        digits={"a8": 1, "a15": 2}[_choice(activations, ("a8", "a15"), "--activations")],
        head_bits=head_bits,
        kv_bits=kv_bits,
        fused=fused,
    )
    question = Question(
        models={name: _shapes(name) for name in _listed(model, "--model")},
        gpus={name: gpu_named(name) for name in _listed(gpu, "--gpu")},
        bits=_numbers(bits),
        how=how,
        graphs=graphs,
        embedding=_choice(embedding, PLACES, "--embedding"),
        costs=read_product_costs(report or REPORT, fused),
    )
    result = answer(question)
    if plot is not None:
        from liftquant.estimate_plot import draw

        draw(question, plot)
    if json:
        print_json(result)
        return
    for table in speed_tables(result):
        out.print(table)
    if checks:
        out.print(check_table(result))
    out.print("\n".join(notes(result)))
