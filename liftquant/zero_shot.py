"""Zero-shot tasks through lm-eval (EleutherAI's Language Model Evaluation Harness)."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from algo.errors import LiftError


def require_lm_eval() -> None:
    """Raise LiftError where lm-eval is not installed; asked before models are loaded."""
    if find_spec("lm_eval") is None:
        raise LiftError("--tasks needs the package lm-eval: pip install 'liftquant[eval]'")


def _definition(task: str) -> Any:
    """What lm-eval takes: the name of one of its tasks, or the fields of a YAML file."""
    if not task.endswith((".yaml", ".yml")):
        return task
    import yaml

    try:
        fields = yaml.safe_load(Path(task).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LiftError(f"--tasks: {task} cannot be read as YAML: {error}") from None
    if not isinstance(fields, dict) or "task" not in fields:
        raise LiftError(f"--tasks: {task} defines no lm-eval task (it must name one: `task: ...`)")
    return fields


def zero_shot(
    model: nn.Module, tokenizer: Any, tasks: list[str], batch: int
) -> dict[str, dict[str, float]]:
    """Every metric of every task, such as ``{"piqa": {"acc": 0.68, "acc_stderr": 0.01}}``.

    Args:
        model: a transformers causal language model.
        tokenizer: its tokenizer.
        tasks: names that lm-eval knows, or YAML files that define tasks.
        batch: requests per forward pass.

    Raises:
        LiftError: lm-eval is not installed, knows no such task, or cannot fetch its data.
    """
    require_lm_eval()
    definitions = [_definition(task.strip()) for task in tasks]
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    try:
        results = simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch),
            tasks=definitions,
            bootstrap_iters=1000,
            verbosity="ERROR",
        )["results"]
    except Exception as error:  # unknown names, the hub, the task's own code
        raise LiftError(
            f"lm-eval could not run {', '.join(tasks)} ({type(error).__name__}: {error}); "
            "`lm-eval ls tasks` lists names, and their data come over the network"
        ) from error
    return {
        task: {
            key.partition(",")[0]: float(value)
            for key, value in metrics.items()
            if isinstance(value, int | float) and "," in key
        }
        for task, metrics in results.items()
    }
