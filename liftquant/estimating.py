"""What is asked of the model of time, and its answer as JSON values."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from algo.budget import Place
from algo.shapes import ModelShapes
from gpu.decoding_work import Decoding
from gpu.gpus import Gpu
from gpu.llama_models import MODELS, llama_shapes
from gpu.product_costs import Costs, default_tile
from gpu.published import Published, not_found, published
from gpu.speed import HIGHEST_BITS, Speed, estimate
from gpu.speed_checks import (
    ANCHOR,
    SCENARIOS,
    SUBMIT_SECONDS,
    USUAL_CONTEXT,
    all_gpus,
    checkable,
    checks,
    fixed_clocks,
    scenario,
)
from gpu.time_model import NOTE

# models that published figures are put beside: nearly as many weights, not the same model
_BESIDE = {
    "llama-3-8b": ("llama-3-8b", "llama-2-7b", "mistral-7b"),
    "llama-2-7b": ("llama-2-7b", "llama-3-8b", "mistral-7b"),
    "mistral-7b": ("mistral-7b", "llama-3-8b", "llama-2-7b"),
    "llama-3-70b": ("llama-3-70b", "llama-2-70b"),
    "llama-2-70b": ("llama-2-70b", "llama-3-70b"),
}
# cards so near to one that is estimated for that their figures are put beside it
NEAR = {"rtx-4090": ("rtx-6000-ada",), "a100": ("a100-40gb",)}


@dataclass(frozen=True)
class Question:
    """What to estimate: every model at every rate on every GPU."""

    models: Mapping[str, ModelShapes]
    gpus: Mapping[str, Gpu]
    bits: Sequence[float]
    how: Decoding
    graphs: bool
    embedding: Place
    costs: Costs

    def speed(self, model: str, gpu: str, bits: float) -> Speed:
        """One combination."""
        return estimate(
            self.models[model], self.gpus[gpu], bits, self.how, self.costs, self.graphs,
            self.embedding,
        )  # fmt: skip

    def beside(self, model: str, gpu: str) -> list[Published]:
        """Published figures of one sequence on that GPU or one near it, of a model of that size."""
        gpus = (gpu, *NEAR.get(gpu, ()))
        models = _BESIDE.get(model, ())
        return [f for f in published() if f.model in models and f.gpu in gpus and f.batch == 1]


def _row(model: str, gpu: str, speed: Speed) -> dict[str, Any]:
    expected = speed.steps["expected"]
    return {
        "model": model,
        "gpu": gpu,
        "bits": speed.bits,
        "code": speed.code,
        "tokens_per_second": dict(speed.tokens_per_second),
        "milliseconds": {name: 1e3 * step.seconds for name, step in speed.steps.items()},
        "expected_milliseconds_by_cause": {k: 1e3 * v for k, v in expected.by_cause.items()},
        "launches": expected.launches,
        "moved_bytes": expected.memory_bytes,
        "weights_only_tokens_per_second": speed.weights_only,
        "memory_bytes": speed.memory_bytes,
        "gpu_bytes": speed.gpu_bytes,
        "fits": speed.fits,
    }


def _same_case(question: Question, figure: Published) -> dict[str, float] | None:
    """Our tokens per second for the model, card, bits, head and context of a published figure.

    None where nothing was compiled for the card, or the bits are more than codes have.
    """
    if not checkable(figure) or figure.bits > HIGHEST_BITS:
        return None
    gpu = all_gpus()[str(figure.gpu)]
    if gpu.target not in question.costs:
        return None
    how = replace(
        question.how,
        batch=figure.batch,
        context=figure.context or USUAL_CONTEXT,
        head_bits=int(figure.head_bits or 16),
    )
    shapes = llama_shapes(MODELS[str(figure.model)])
    speed = estimate(shapes, gpu, figure.bits, how, question.costs, question.graphs)
    return dict(speed.tokens_per_second)


def answer(question: Question) -> dict[str, Any]:
    """Every estimate with all that it assumes, and published figures beside them.

    Raises:
        LiftError: as `gpu.speed.estimate`.
    """
    how = question.how
    rows = [
        _row(model, gpu, question.speed(model, gpu, bits))
        for model in question.models
        for gpu in question.gpus
        for bits in question.bits
    ]
    beside = {
        figure.id: figure
        for model in question.models
        for gpu in question.gpus
        for figure in question.beside(model, gpu)
    }
    return {
        "note": NOTE,
        "decoding": asdict(how),
        "graphs": question.graphs,
        "embedding": question.embedding,
        "assumptions": {name: asdict(scenario(name, question.graphs)) for name in SCENARIOS},
        "fixed_clocks_from": ANCHOR,
        "fixed_clocks": fixed_clocks(),
        "host_seconds_per_launch_without_graphs": SUBMIT_SECONDS,
        "gpus": {key: gpu._asdict() for key, gpu in question.gpus.items()},
        "product": {
            gpu.target: default_tile(question.costs, gpu.target, how.columns)._asdict()
            for gpu in question.gpus.values()
        },
        "estimates": rows,
        "published": [
            {**asdict(figure), "ours_in_its_case": _same_case(question, figure)}
            for figure in beside.values()
        ],
        "checks": [
            {
                "id": check.figure.id,
                "method": check.figure.method,
                "model": check.figure.stated_model,
                "gpu": check.figure.stated_gpu,
                "gpu_name": all_gpus()[str(check.figure.gpu)].name,
                "bits": check.figure.bits,
                "published": check.figure.tokens_per_second,
                "predicted": check.predicted,
                "ratio": check.ratio,
                "set_from_it": check.figure.id == ANCHOR,
            }
            for check in checks()
        ],
        "not_found": [asdict(missing) for missing in not_found()],
    }
