"""``liftquant generate``: text from a checkpoint or an original model, as it is made."""

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from liftquant.console import err, print_json, progress

if TYPE_CHECKING:
    from liftquant.generating import Generation

_INTERRUPTED = 130


def generate(
    model: Annotated[
        str,
        typer.Argument(
            help="A checkpoint, a copy of one by save_pretrained, or an original model: a "
            "directory or hub id; of an original also a .gguf file."
        ),
    ],
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="The text to go on from; - for stdin.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="At most so many tokens.")] = 128,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token every time; above, tokens are drawn.")
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option(help="Draw from the likeliest tokens with this probability together.")
    ] = 1.0,
    top_k: Annotated[
        int, typer.Option(min=0, help="Draw from so many of the likeliest tokens; 0 for all.")
    ] = 0,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Of the draws; at random by default.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32 or bfloat16, for what is not quantised; by default bfloat16 where the "
            "processor multiplies it faster."
        ),
    ] = None,
    integers: Annotated[
        str | None,
        typer.Option(
            help="Digits of activations in quantised layers: a8, or a15 (finer); by default what "
            "the checkpoint says, which is a8."
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of the processor; all cores by default.")
    ] = None,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--no-chat",
            help="Put the prompt into the model's chat template; by default where it has one.",
        ),
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="What the model is told before a chat.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print text and measurements as JSON, at the end.")
    ] = False,
) -> None:
    """Continue a text, or answer in a chat, on the CPU.

    The text alone goes to standard output, piece by piece; a line with speed and memory to
    standard error. Ctrl-C ends it where it is (exit status 130).
    """
    from algo.errors import LiftError
    from liftquant.generating import Sampling, check_prompt, check_text, prompt_tokens, room
    from liftquant.generating import generate as generated
    from liftquant.libraries import quiet_transformers
    from liftquant.served_model import (
        check_dtype,
        check_integers,
        check_named,
        default_dtype,
        open_served,
        served_integers,
        set_threads,
    )

    check_named(model)
    if system is not None and chat is False:
        raise LiftError("--system needs a chat, and --no-chat excludes one; leave one of them out")
    text = check_prompt(_prompt(prompt))
    if system is not None:
        check_text(system, "--system")
    sampling = Sampling(max_new_tokens, temperature, top_p, top_k, seed)
    kind = default_dtype() if dtype is None else dtype
    numbers, digits = check_dtype(kind), check_integers(integers)
    quiet_transformers()
    set_threads(threads)
    with progress(f"loading {model}"):
        served, tokenizer = open_served(model, numbers, digits)
    if integers is not None and served_integers(served) is None:
        raise LiftError(f"{model} is not quantised; leave out --integers")
    tokens = prompt_tokens(tokenizer, text, chat, system)
    left = room(served, tokens.shape[1])
    if left is not None and left < max_new_tokens:
        err.print(f"the model's context has room for {left:,} new tokens")
    result = generated(served, tokenizer, tokens, sampling, _ignore if json else _show)
    if json:
        settings = {
            "model": model, "prompt": text, "dtype": kind, "integers": served_integers(served),
            "temperature": temperature, "top_p": top_p, "top_k": top_k,
        }  # fmt: skip
        print_json({**settings, **_fields(result)})
    else:
        if not result.text.endswith("\n"):
            _show("\n")
        err.print(_line(result), soft_wrap=True)
        busy = _busy()
        if busy:
            err.print(busy, soft_wrap=True)
    if result.stopped == "interrupted":
        raise typer.Exit(_INTERRUPTED)


def _prompt(given: str | None) -> str:
    from algo.errors import LiftError

    if given is None:
        raise LiftError("no prompt: give --prompt TEXT, or --prompt - to read it from stdin")
    if given != "-":
        return given
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise LiftError(f"the prompt on stdin is not UTF-8 text: {error}") from None


def _show(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()


def _ignore(piece: str) -> None:
    """Nothing is streamed where JSON is asked for."""


def _fields(result: "Generation") -> dict[str, Any]:
    from liftquant.memory import peak_memory

    return {
        "text": result.text,
        "stopped": result.stopped,
        "seed": result.seed,
        "prompt_tokens": result.prompt_tokens,
        "tokens": len(result.tokens),
        "seconds_to_first_token": result.first_seconds,
        "tokens_per_second": result.tokens_per_second,
        "peak_rss_bytes": peak_memory(),
    }


def _busy() -> str | None:
    """What to try where others compute, too: threads that wait for each other wait long then."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if torch.get_num_threads() == 1 or cores is None or load < cores + 1:
        return None
    return f"this machine is busy (load {load:.1f}, {cores} cores): --threads 1 may be much faster"


def _line(result: "Generation") -> str:
    import torch

    from algo.sizes import format_size
    from liftquant.memory import peak_memory

    ended = {"end": "ended by itself", "length": "--max-new-tokens reached"}
    parts = [
        f"{len(result.tokens)} tokens after a prompt of {result.prompt_tokens} "
        f"({ended.get(result.stopped, result.stopped)})"
    ]
    if result.first_seconds is not None:
        parts.append(f"the first after {result.first_seconds:.2f} s")
    if result.tokens_per_second is not None:
        threads = torch.get_num_threads()
        parts.append(
            f"then {result.tokens_per_second:.1f} tokens/s on {threads} thread{'s' * (threads > 1)}"
        )
    if result.seed is not None:
        parts.append(f"seed {result.seed}")
    parts.append(f"peak memory {format_size(peak_memory())}")
    return ", ".join(parts)
