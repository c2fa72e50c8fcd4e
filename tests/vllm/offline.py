"""A process for one model: ``python -m tests.vllm.offline REQUEST.json ANSWER.json``.

The request has the arguments of `vllm.LLM` under ``model``, and ``prompts`` (texts, or lists of
tokens), ``chats`` (lists of messages) and ``tokens``, how many to generate greedily for each. The
answer has ``tokens`` and ``texts`` of both, ``layers``, the outputs of every `LiftLinear` of the
first rank by name, and ``weights``, the parameters that are left in layers which have one.
"""

import json
import sys
from pathlib import Path
from typing import Any


def served_layers(model: Any) -> dict[str, list[int]]:
    """Outputs of each matrix of every LiftLinear; vLLM calls it in the process of a rank."""
    from gpu.linear import LiftLinear

    return {
        name: list(module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, LiftLinear)
    }


def left_weights(model: Any) -> list[str]:
    """Parameters of layers that a LiftLinear runs."""
    return [
        f"{name}.{leaf}"
        for name, module in model.named_modules()
        if hasattr(module, "lift")
        for leaf, _ in module.named_parameters(recurse=False)
    ]


def main(request: dict[str, Any]) -> dict[str, Any]:
    from vllm import LLM, SamplingParams

    llm = LLM(**request["model"])
    named = request["model"].get("skip_tokenizer_init", False)
    greedy = SamplingParams(
        temperature=0, max_tokens=request["tokens"], ignore_eos=True, detokenize=not named
    )
    prompts = [{"prompt_token_ids": p} if isinstance(p, list) else p for p in request["prompts"]]
    outputs = llm.generate(prompts, greedy, use_tqdm=False) if prompts else []
    if request["chats"]:
        outputs += llm.chat(request["chats"], greedy, use_tqdm=False)
    answer: dict[str, Any] = {
        "tokens": [list(output.outputs[0].token_ids) for output in outputs],
        "texts": [output.outputs[0].text for output in outputs],
    }
    if request["model"].get("tensor_parallel_size", 1) == 1:
        answer["layers"] = llm.apply_model(served_layers)[0]
        answer["weights"] = llm.apply_model(left_weights)[0]
    return answer


if __name__ == "__main__":
    asked, told = map(Path, sys.argv[1:])
    told.write_text(json.dumps(main(json.loads(asked.read_text()))))
