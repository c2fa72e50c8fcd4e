"""A model in a process of its own: ``python -m liftquant.generation_child``.

Every line of standard input is a request in JSON, ``{"do": NAME, ...}``, and every line of standard
output the answer to one: what it asked for, or ``{"error": MESSAGE}``. It ends when standard input
does. `liftquant.generation_process` is the other side.
"""

import json
import os
import queue
import sys
import threading
import time
from typing import Any

from algo.errors import LiftError

ORPHANED = 3  # exit status of a child whose parent is gone
_WARM_UP = 4  # tokens: kernels are read from their cache, buffers made


class Served:
    """What is asked of one model; every method is a request and returns its answer."""

    def __init__(self) -> None:
        self._model: Any = None
        self._tokenizer: Any = None

    def kernels(self) -> dict[str, Any]:
        """Compile the CPU's kernels into numba's cache, unless they are there."""
        import gpu.cpu.layer  # noqa: F401

        return {}

    def save(self, model: str, folder: str) -> dict[str, Any]:
        """Write an original as a bfloat16 Hugging Face directory."""
        import torch

        from algo.model import load_original

        original, tokenizer = load_original(model)
        original.to(torch.bfloat16).save_pretrained(folder)  # type: ignore[operator]
        tokenizer.save_pretrained(folder)
        return {}

    def load(
        self, model: str, dtype: str, integers: str | None, threads: int | None, name: str
    ) -> dict[str, Any]:
        """Load the model, which the user calls `name`."""
        import torch

        # imported before memory is looked at: every model needs them, quantised or not
        from transformers import PreTrainedModel  # noqa: F401

        from liftquant.libraries import quiet_transformers
        from liftquant.memory import resident_memory
        from liftquant.served_model import (
            check_dtype,
            check_integers,
            open_served,
            served_integers,
            set_threads,
            weight_bytes,
        )

        quiet_transformers()
        set_threads(threads)
        before, began = resident_memory(), time.perf_counter()
        try:
            served = open_served(model, check_dtype(dtype), check_integers(integers))
        except LiftError as error:
            raise LiftError(str(error).replace(model, name)) from None
        self._model, self._tokenizer = served
        return {
            "load_seconds": time.perf_counter() - began,
            "before_loading_bytes": before,
            "integers": served_integers(self._model),
            "weights_bytes": weight_bytes(self._model),
            "vocabulary": self._model.config.vocab_size,
            "threads": torch.get_num_threads(),
        }

    def prompt(self, text: str, count: int) -> dict[str, Any]:
        """The first `count` tokens of a text."""
        found = self._tokenizer(text)["input_ids"][:count]
        if len(found) < count:
            raise LiftError(f"the built-in text has {len(found):,} tokens; --prompt-tokens {count}")
        return {"tokens": found}

    def warm_up(self, tokens: list[int], new: int) -> dict[str, Any]:
        """A prompt and a few tokens, untimed as such; refuses what will not fit."""
        from liftquant.generating import room

        left = room(self._model, len(tokens))
        if left is not None and left < new:
            raise LiftError(
                f"{len(tokens)} tokens and {new} new ones are more than the model's context of "
                f"{left + len(tokens)}; give a smaller --prompt-tokens or --new-tokens"
            )
        began = time.perf_counter()
        self.round(tokens, _WARM_UP)
        return {"warm_up_seconds": time.perf_counter() - began}

    def round(self, tokens: list[int], new: int) -> dict[str, Any]:
        """Continue the prompt by exactly `new` tokens, the likeliest ones."""
        import torch

        from liftquant.generating import Moments, continue_tokens, end_tokens, rate

        ends = end_tokens(self._model, self._tokenizer)
        moments = Moments()
        began = time.perf_counter()
        continue_tokens(
            self._model, torch.tensor([tokens]), moments, ends, max_new_tokens=new,
            min_new_tokens=new, do_sample=False, temperature=None, top_p=None, top_k=None,
            repetition_penalty=None,
        )  # fmt: skip
        if len(moments.times) != new:
            raise LiftError(f"{len(moments.times)} tokens were made where {new} were asked for")
        return {
            "prefill_seconds": moments.times[0] - began,
            "tokens_per_second": rate(moments.times),
        }

    def memory(self) -> dict[str, Any]:
        """Memory of this process."""
        from liftquant.memory import peak_memory, resident_memory

        return {"resident_bytes": resident_memory(), "peak_bytes": peak_memory()}


def _answer(served: Served, request: dict[str, Any]) -> dict[str, Any]:
    try:
        done: dict[str, Any] = getattr(served, request.pop("do"))(**request)
    except (LiftError, OSError) as error:
        return {"error": str(error)}
    return done


def _listen(requests: "queue.SimpleQueue[dict[str, Any]]") -> None:
    """Hand requests on; end this process when standard input does, whatever it is doing."""
    for line in sys.stdin:
        requests.put(json.loads(line))
    os._exit(ORPHANED)


def main() -> None:
    # libraries that print would garble the answers: what is not one goes to standard error
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    served = Served()
    while True:
        answers.write(json.dumps(_answer(served, requests.get())) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
