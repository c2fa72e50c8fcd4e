"""Predicted decoding speed of packed models on GPUs, and whether they fit the memory."""

from collections.abc import Mapping
from dataclasses import dataclass

from algo.budget import Budget, Place, run_memory
from algo.code import LiftCode
from algo.errors import LiftError
from algo.footprint import Layout
from algo.plan import rate_code
from algo.shapes import ModelShapes
from algo.shipped import shipped_codes
from gpu.decoding_work import Decoding, our_kernels
from gpu.gpus import Gpu
from gpu.product_costs import Costs, default_tile
from gpu.speed_checks import SCENARIOS, scenario
from gpu.time_model import StepTime, step_time

LOWEST_BITS, HIGHEST_BITS = 1.0, 4.0


@dataclass(frozen=True)
class Speed:
    """One model at one rate on one GPU.

    Attributes:
        gpu: name.
        bits: per weight.
        code: the code that was counted with.
        steps: time of a decoding step, by scenario.
        tokens_per_second: of all sequences together, by scenario.
        weights_only: tokens per second if nothing but the packed words and the head were read, at
            the peak bandwidth: no implementation of the format can be faster.
        memory_bytes: what the model takes on the GPU at this context.
        gpu_bytes: what there is.
    """

    gpu: str
    bits: float
    code: str
    steps: Mapping[str, StepTime]
    tokens_per_second: Mapping[str, float]
    weights_only: float
    memory_bytes: int
    gpu_bytes: int

    @property
    def fits(self) -> bool:
        return self.memory_bytes <= self.gpu_bytes


def plain_code(bits: float) -> LiftCode:
    """A code of exactly `bits` per weight that the one-bit product takes, to count with.

    The best shipped sliding one without parities, else what `algo.plan.rate_code` makes up.

    Raises:
        LiftError: no code with groups of at most 16 weights has that rate, or it is out of range.
    """
    if not LOWEST_BITS <= bits <= HIGHEST_BITS:  # also not a number
        raise LiftError(
            f"{bits:g} bits per weight are not between {LOWEST_BITS:g} and {HIGHEST_BITS:g}"
        )
    plain = [
        shipped
        for shipped in shipped_codes().values()
        if abs(shipped.code.rate - bits) < 1e-9 and shipped.code.overlap
        if not shipped.code.parities
    ]
    if plain:
        return min(plain, key=lambda shipped: shipped.mse).code
    code = rate_code(bits)
    if abs(code.rate - bits) > 1e-9:
        raise LiftError(
            f"no code has {bits:g} bits per weight: with groups of at most 16 weights the nearest "
            f"is {code.lifted}/{code.group} = {code.rate:.6g}"
        )
    return code


def estimate(
    shapes: ModelShapes,
    gpu: Gpu,
    bits: float,
    how: Decoding,
    costs: Costs,
    graphs: bool = True,
    embedding: Place = "gpu",
) -> Speed:
    """Predict one combination.

    Args:
        shapes: of the model.
        gpu: what it runs on.
        bits: per weight of all its layers.
        how: batch, context and forms.
        costs: of the product, from `gpu.product_costs.read_product_costs`.
        graphs: CUDA graphs hold the launches.
        embedding: where the token embedding is kept; it decides only whether the model fits.

    Raises:
        LiftError: the compile report has no figures for the GPU, or there is no code of the rate.
    """
    code = plain_code(bits)
    codes = dict.fromkeys(shapes.linears, code)
    kernels = our_kernels(shapes, codes, how, default_tile(costs, gpu.target, how.columns))
    steps = {name: step_time(kernels, gpu, scenario(name, graphs)) for name in SCENARIOS}
    gpu_bytes = gpu.memory_gib * 2**30
    budget = Budget(
        total_bytes=gpu_bytes, context=how.context, batch=how.batch, kv_bits=how.kv_bits,
        head_bits=how.head_bits, embedding=embedding,
    )  # fmt: skip
    memory = run_memory(shapes, codes, Layout(how.axis), budget)
    read = memory.words + memory.head
    return Speed(
        gpu=gpu.name,
        bits=bits,
        code=code.name,
        steps=steps,
        tokens_per_second={name: how.batch / step.seconds for name, step in steps.items()},
        weights_only=how.batch * gpu.bandwidth_tbs * 1e12 / read,
        memory_bytes=memory.total,
        gpu_bytes=gpu_bytes,
    )
