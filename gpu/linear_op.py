"""The operator ``liftquant::linear``: a `gpu.linear.LiftLinear` as graphs see it.

All that a layer is besides its tensors is in a string, so that an exported program runs in any
process that has imported this module. To torch.compile the operator is opaque, which keeps the
kernels' floating point as it is written.
"""

import torch

from algo.errors import LiftError
from gpu.linear_product import product_of


def check_device(device: torch.device) -> None:
    """Raise LiftError where no layer runs on a device."""
    if device.type not in ("cpu", "cuda"):  # HIP devices call themselves cuda, too
        raise LiftError(f"there is no kernel for {device}; use a CPU, CUDA or HIP device")


# a call costs a third of what one of a `torch.library.custom_op` does
_LIBRARY = torch.library.Library("liftquant", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "linear(Tensor x, Tensor[] tensors, str spec) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def _linear(x: torch.Tensor, tensors: list[torch.Tensor], spec: str) -> torch.Tensor:
    product = product_of(spec)
    check_device(x.device)
    product.check(x)
    product.check_held(tensors, x.device)
    return product(x, product.parts(tensors))


for _device in ("CPU", "CUDA"):
    _LIBRARY.impl("linear", _linear, _device)  # type: ignore[no-untyped-call]


@torch.library.register_fake(  # type: ignore[untyped-decorator]
    "liftquant::linear", lib=_LIBRARY
)
def _(x: torch.Tensor, tensors: list[torch.Tensor], spec: str) -> torch.Tensor:
    product = product_of(spec)
    product.check(x)
    return x.new_empty((*x.shape[:-1], sum(product.spec.outputs)))


def linear(x: torch.Tensor, tensors: list[torch.Tensor], spec: str) -> torch.Tensor:
    """``(..., inputs)`` to ``(..., all outputs)`` in the dtype of `x`, without a gradient.

    Args:
        x: float32, float16 or bfloat16. CPU tensors take the CPU's kernels, CUDA and HIP tensors
            the Triton kernels (compiled, not run on a GPU).
        tensors: a layer's, as `gpu.tensor_tree.taken_apart` gives them, on the device of `x`.
        spec: `gpu.linear_spec.LinearSpec.as_json`.

    Raises:
        LiftError: the spec is damaged, or a tensor does not fit it.
    """
    out: torch.Tensor = torch.ops.liftquant.linear.default(x.detach(), tensors, spec)
    return out
