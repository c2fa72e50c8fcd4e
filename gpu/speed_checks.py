"""What the model of time is worth: predictions for formats of others beside their published speeds.

One parameter is set from a published figure, the fixed cost per launch, from the 16-bit Llama-2-7B
on an A100 in `ANCHOR`; every other figure is a check. Other formats are counted as their bytes
and their launches alone, so a ratio well above 1 says that their kernels wait for something else.
"""

from functools import cache
from typing import NamedTuple

from algo.errors import LiftError
from algo.shapes import ModelShapes
from gpu.decoding_work import Decoding, dense_kernels
from gpu.gpus import GPUS, Gpu
from gpu.llama_models import MODELS, llama_shapes
from gpu.published import Published, published
from gpu.time_model import Assumptions, Kernel, step_time

ANCHOR = "torchao-fp16-llama-2-7b"
USUAL_CONTEXT = 256  # tokens, where a source states none

_NAMES = {"rtx-4090": "RTX 4090", "a100": "A100 80GB SXM", "h100": "H100 SXM", "b200": "B200"}
# cards of published figures only; no machine code is compiled for them
_OTHERS = {
    "rtx-6000-ada": Gpu(
        "RTX 6000 Ada", "sm_89", 142, 2.505, 128, 0.960, 48, 728.5, 364.2,
        "NVIDIA RTX 6000 Ada datasheet",
    ),
    "rtx-a6000": Gpu(
        "RTX A6000", "sm_86", 84, 1.80, 128, 0.768, 48, 309.7, 154.8, "NVIDIA RTX A6000 datasheet"
    ),
    "a100-40gb": Gpu(
        "A100 40GB SXM", "sm_80", 108, 1.41, 128, 1.555, 40, 624, 312, "NVIDIA A100 datasheet"
    ),
}  # fmt: skip
# formats that rotate activations take launches for it before and after every stack of layers
_ROTATIONS = {"QuIP#": 2, "QTIP": 2}

SCENARIOS = ("pessimistic", "expected", "optimistic")
# Shares of bandwidth, issue slots and tensor rate; bytes of the shared cache per clock; how many
# times the fixed cost that `ANCHOR` gives. 0.83 is 1700 of 2039 GB/s, what gpt-fast's README calls
# the A100's empirical peak (the card limited to 330 W). 5120 bytes are the A100's as NVIDIA states
# them; two thirds of that have been measured (4830 GB/s); other cards are taken to be alike. The
# rest is assumed.
_SHARES = {
    "pessimistic": (0.83, 0.60, 0.50, 2560.0, 1.5),
    "expected": (0.90, 0.75, 0.65, 3413.0, 1.0),
    "optimistic": (0.95, 0.90, 0.80, 5120.0, 0.5),
}
SUBMIT_SECONDS = 5e-6  # of the host per launch without CUDA graphs: assumed


class Check(NamedTuple):
    """A published figure and what the model says of it; ``ratio`` is predicted over published."""

    figure: Published
    predicted: float
    ratio: float


@cache
def estimated_gpus() -> dict[str, Gpu]:
    """GPUs that are estimated for, by the names a user types."""
    by_name = {gpu.name: gpu for gpu in GPUS}
    return {key: by_name[name] for key, name in _NAMES.items()}


def all_gpus() -> dict[str, Gpu]:
    """The same and those that only published figures are of."""
    return {**estimated_gpus(), **_OTHERS}


def gpu_named(key: str) -> Gpu:
    """The GPU of a name.

    Raises:
        LiftError: it is not among `estimated_gpus`.
    """
    known = estimated_gpus()
    if key not in known:
        raise LiftError(f"no estimate for GPU {key!r}; known are {', '.join(known)}")
    return known[key]


@cache
def _shapes(model: str) -> ModelShapes:
    return llama_shapes(MODELS[model])


def _kernels(figure: Published) -> list[Kernel]:
    """A step in the format of a figure, launches fused as ours are."""
    if figure.model is None or figure.stored_bits is None or figure.head_bits is None:
        raise LiftError(f"{figure.id} is of a model or format whose bytes are not known")
    how = Decoding(batch=figure.batch, context=figure.context or USUAL_CONTEXT)
    return dense_kernels(
        _shapes(figure.model), figure.stored_bits, figure.head_bits, how,
        _ROTATIONS.get(figure.method, 0),
    )  # fmt: skip


@cache
def fixed_clocks() -> float:
    """Clocks per launch that make the expected time of `ANCHOR` the published one."""
    anchor = next(figure for figure in published() if figure.id == ANCHOR)
    assert anchor.gpu is not None
    gpu = all_gpus()[anchor.gpu]
    step = step_time(_kernels(anchor), gpu, _assumptions("expected", 0.0, 0.0))
    seconds = anchor.batch / anchor.tokens_per_second - step.seconds
    return seconds / step.launches * gpu.clock_ghz * 1e9


def _assumptions(name: str, fixed: float, submit: float) -> Assumptions:
    memory, issue, tensor, cache, factor = _SHARES[name]
    return Assumptions(memory, cache, issue, tensor, factor * fixed, submit)


def scenario(name: str, graphs: bool = True) -> Assumptions:
    """One of `SCENARIOS`; without CUDA graphs the host pays for every launch."""
    return _assumptions(name, fixed_clocks(), 0.0 if graphs else SUBMIT_SECONDS)


def checkable(figure: Published) -> bool:
    """Whether model, GPU and bytes of a figure are known."""
    return None not in (figure.model, figure.gpu, figure.stored_bits, figure.head_bits)


def checks() -> list[Check]:
    """Every published figure whose model, GPU and bytes are known, in the file's order."""
    found = []
    for figure in filter(checkable, published()):
        step = step_time(_kernels(figure), all_gpus()[str(figure.gpu)], scenario("expected"))
        predicted = figure.batch / step.seconds
        found.append(Check(figure, predicted, predicted / figure.tokens_per_second))
    return found
