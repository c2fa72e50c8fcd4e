"""``liftquant bench generate``: speed and memory of generation, models side by side."""

from pathlib import Path
from typing import Annotated

import typer

from liftquant.console import err, out, print_json, progress


def bench_generate(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Checkpoints and originals (directory, hub id, .gguf); the first is what the "
            "others are compared with."
        ),
    ],
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens of the prompt.")] = 128,
    new_tokens: Annotated[int, typer.Option(min=2, help="Tokens made in a round.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Of every model, in turns.")] = 3,
    dtype: Annotated[
        str, typer.Option(help="float32 or bfloat16, of what is not quantised.")
    ] = "bfloat16",
    integers: Annotated[
        str | None,
        typer.Option(
            help="Digits of activations in quantised layers: a8 or a15; by default what each "
            "checkpoint says."
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of the processor; all cores by default.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw speed and memory as SVG.")] = None,
    file: Annotated[Path | None, typer.Option("--out", help="Write the result, as JSON.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Generate with every model in turns and report speed and memory, on the CPU.

    Each model is loaded by transformers, in a process of its own. Loading it and a first, short run
    are the start-up, told apart from the rounds. All models are in memory at once. Kernels that are
    not in numba's cache yet are compiled before, by another process.
    """
    from algo.errors import LiftError
    from algo.files import write_json
    from liftquant.generation_bench import Settings, measure, steps
    from liftquant.gpu_options import check_file
    from liftquant.served_model import check_dtype, check_integers, check_named

    for model in models:
        check_named(model)
    check_dtype(dtype)
    check_integers(integers)
    if plot is not None:
        check_file("--plot", plot)
        if plot.suffix != ".svg":
            raise LiftError(f"--plot {plot}: pictures are SVG; name a file that ends in .svg")
    if file is not None:
        check_file("--out", file)
    settings = Settings(prompt_tokens, new_tokens, rounds, dtype, integers, threads)
    with progress("generating", steps(len(models), rounds)) as meter:
        result = measure(models, settings, meter.advance)
    if file is not None:
        write_json(file, result.as_json())
    if plot is not None:
        from liftquant.generation_bench_plot import plot as draw

        draw(result, plot)
    if json:
        print_json(result.as_json())
    else:
        from liftquant.generation_bench_table import beginnings, bench_table

        where = result.environment
        out.print(
            f"{where['processor']}, {where['threads']} threads of {where['cores']} cores, torch "
            f"{where['versions']['torch']}, {dtype}"
        )
        out.print(bench_table(result))
        out.print(beginnings(result))
        for row in result.models:
            if row.note:
                out.print(f"{row.model}: {row.note}", soft_wrap=True)
    for what, written in (("result", file), ("plot", plot)):
        if written is not None:
            err.print(f"{what} in {written}", soft_wrap=True)
