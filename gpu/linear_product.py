"""What a `LiftLinear` computes, apart from the tensors it holds: one for all layers of one spec.

On the CPU the kernels of `gpu.cpu` run, on CUDA and HIP devices the Triton kernels (compiled
offline and run under the interpreter; not run on a GPU).
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from algo.errors import LiftError
from gpu.cpu.layer import cpu_linear
from gpu.linear_layout import form_of, integer_bounds, template
from gpu.linear_spec import LinearSpec, parsed
from gpu.products import OneBitProduct
from gpu.stack import Segment, Stack
from gpu.tensor_tree import Assembly, Parts, held_dtype
from gpu.tuning_table import ONE_BIT, Choice, TuningTable
from gpu.weights import PackedWeights

if TYPE_CHECKING:  # which would import triton
    from gpu.dispatch import Plan
    from gpu.interpret import Run

MOST_TOKENS = 4096  # of a launch
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class LinearProduct:
    """Activations times the layers of a spec.

    Args:
        spec: of the layers. What is made here depends on nothing else, so that all layers that
            are alike share it.
    """

    def __init__(self, spec: LinearSpec) -> None:
        self.spec = spec
        self._assembly = Assembly(template(spec))
        self._shapes = [leaf.shape for leaf in self._assembly.leaves]
        self._dtypes = [held_dtype(leaf.dtype) for leaf in self._assembly.leaves]
        self._columns = spec.columns()
        self._per_token = integer_bounds(spec).per_token if spec.linear else spec.digits
        self._one_bit = OneBitProduct()
        self._segments: list[Segment] | None = None
        self._plans: dict[torch.device, Plan] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "LinearProduct":
        return self  # nothing of it is a layer's own

    def check(self, x: torch.Tensor) -> None:
        """Whether activations fit.

        Raises:
            LiftError: the shape or dtype does not.
        """
        if x.ndim == 0 or x.shape[-1] != self.spec.inputs:
            raise LiftError(
                f"activations have shape {tuple(x.shape)}; the last dimension must be the "
                f"{self.spec.inputs} inputs"
            )
        if x.dtype not in DTYPES:
            raise LiftError(f"activations are {x.dtype}; need float32, float16 or bfloat16")

    def parts(self, held: Sequence[torch.Tensor]) -> Parts:
        """The tensors in their places; `held` as `gpu.tensor_tree.taken_apart` gives them."""
        return self._assembly(held)

    def check_held(self, held: Sequence[torch.Tensor], device: torch.device) -> None:
        """Whether tensors are those of the spec, in the form that a device wants.

        Raises:
            LiftError: a tensor has another shape, dtype or device, or the form is another.
        """
        if self.spec.form != form_of(device.type):
            raise LiftError(
                f"a layer laid out for {self.spec.form} was called on {device}; export or compile "
                "it again after `.to(device)`"
            )
        found = [t.shape for t in held], [t.dtype for t in held]
        if found != (self._shapes, self._dtypes):
            raise LiftError(
                f"the layer's tensors are {_listed(*found)}; its spec has "
                f"{_listed(self._shapes, self._dtypes)}"
            )
        if any(t.device != device for t in held):
            raise LiftError(
                f"activations are on {device} and weights on {held[0].device}; move them to one "
                "device"
            )

    def __call__(self, x: torch.Tensor, parts: Parts, plan: "Plan | None" = None) -> torch.Tensor:
        """``(..., inputs)`` to ``(..., all outputs)`` in the dtype of `x`.

        Args:
            x: as `check` wants them, on the device of the tensors.
            parts: all tensors.
            plan: for a GPU; by default that of the user's table, or of the estimates that ship.
        """
        flat = x if x.ndim == 2 else x.reshape(-1, self.spec.inputs)
        if flat.shape[0] <= MOST_TOKENS:  # which costs less than `len`
            out = self._outputs(flat, parts, plan)
        else:
            # temporaries grow with the tokens of a call, results do not depend on the split
            out = torch.cat([self._outputs(t, parts, plan) for t in torch.split(flat, MOST_TOKENS)])
        return out if x.ndim == 2 else out.reshape(*x.shape[:-1], out.shape[1])

    def _outputs(self, x: torch.Tensor, parts: Parts, plan: "Plan | None") -> torch.Tensor:
        if self.spec.form == "cpu":
            whitening, *layers = parts.values()
            return self._kept(cpu_linear(x, whitening, layers, self.spec.digits))
        from gpu.interpret import as_is

        return self.by_kernels(as_is, x, parts, None, plan)

    def by_kernels(
        self,
        run: "Run",
        x: torch.Tensor,
        parts: Parts,
        choice: Choice | None,
        plan: "Plan | None",
    ) -> torch.Tensor:
        """``(tokens, inputs)`` to ``(tokens, all outputs)`` by kernels, whatever the device.

        Args:
            run: `gpu.interpret.as_is` on a GPU, or an interpreter's.
            x: activations, not whitened.
            parts: all tensors, laid out for the kernels.
            choice: path, tile and split; by default what the plan says.
            plan: as in `__call__`.
        """
        from gpu.prepare import large_blocks, prepare
        from gpu.products import chosen_tile, decoded_product
        from gpu.tiles import NARROW

        digits = self.spec.digits
        stack: Stack | None = parts.get("stack")
        columns = max(1, len(x) * self._per_token)
        if choice is None:
            choice = (plan or self._plan(x.device)).choose(columns)
        whitening, lift = parts["whitening"], parts.get("lift")
        blocks = large_blocks(len(x), self.spec.inputs) if len(x) and x.is_cpu else None
        with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
            if stack is not None and choice.path in ONE_BIT:
                tile = chosen_tile(choice, x.device, columns)
                ready = prepare(run, x, whitening, digits, lift, tile, blocks)
                return self._kept(self._one_bit(run, stack, ready, choice, tile, x.dtype))
            ready = prepare(run, x, whitening, digits, None, NARROW, blocks)
            layers = self._layers(run, parts)
            return self._kept(decoded_product(run, layers, ready, choice, x.dtype))

    def _kept(self, out: torch.Tensor) -> torch.Tensor:
        """The columns that are outputs."""
        if self._columns is None:
            return out
        return torch.cat([out[:, columns] for columns in self._columns], dim=1)

    def _layers(self, run: "Run", parts: Parts) -> Iterator[PackedWeights]:
        """The layers as streams: those that are held, or each laid out for the moment."""
        from gpu.streams import segment_weights

        stack: Stack | None = parts.get("stack")
        for i in range(len(self.spec.codes)):
            if stack is None:
                yield parts[f"layer{i}"]
                continue
            if self._segments is None:
                self._segments = stack.rows()
            tables = parts[f"code{i}"]
            yield segment_weights(run, stack, self._segments[i], tables, self.spec.inputs)

    def planned(self, table: TuningTable) -> "Plan":
        """Which kernels serve how many columns by a table."""
        from gpu.dispatch import plan
        from gpu.tuning_table import LayerClass

        spec = self.spec
        layer = LayerClass.model_validate(
            {
                "rows": sum(spec.heights),
                "inner": spec.inputs,
                "bits": spec.rate,
                "axis": spec.axis,
                "digits": self._per_token,
                "parities": not spec.linear,
            }
        )
        return plan(layer, table)

    def _plan(self, device: torch.device) -> "Plan":
        from gpu.dispatch import table_at_hand

        if device not in self._plans:
            self._plans[device] = self.planned(table_at_hand(device))
        return self._plans[device]


def _listed(shapes: Sequence[tuple[int, ...]], dtypes: Sequence[torch.dtype]) -> str:
    pairs = zip(shapes, dtypes, strict=True)
    return ", ".join(f"{str(dtype)[6:]} {tuple(shape)}" for shape, dtype in pairs)


class PartsInPlace:
    """A layer's tensors in their places, for as long as they lie where they lay.

    What is kept holds on to the memory, so that none of it can be given to other tensors.

    Args:
        product: of the layer.
    """

    def __init__(self, product: LinearProduct) -> None:
        self._product = product
        self._kept: tuple[list[int], Parts] = ([], {})  # in one piece: threads may share a layer

    def __reduce__(self) -> tuple[type["PartsInPlace"], tuple[LinearProduct]]:
        # copies and what is saved keep nothing: torch saves no memory that is of two types
        return PartsInPlace, (self._product,)

    def __call__(self, held: Sequence[torch.Tensor]) -> Parts:
        """As `LinearProduct.parts`; which takes longer than some products do."""
        at = [tensor.data_ptr() for tensor in held]
        lay, parts = self._kept
        if at != lay:
            parts = self._product.parts(held)
            self._kept = at, parts
        return parts


@lru_cache(maxsize=512)  # more than the kinds of layers of a model
def product_of(spec: str) -> LinearProduct:
    """The product of a spec, `LinearSpec.as_json`; layers that are alike share one."""
    return LinearProduct(parsed(spec))
