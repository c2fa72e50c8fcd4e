"""NamedTuples of tensors taken apart and put together again, nested ones too.

Integers are what is held: floating-point tensors lie as the int32 of the same bits, which nothing
that casts a module's floating-point tensors touches.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch

Parts = dict[str, Any]  # NamedTuples by name


class Leaf(NamedTuple):
    """What stands in a template in the place of a tensor.

    Attributes:
        dtype: of the tensor, as those who use it have it.
        shape: its shape.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]


def leaf(dtype: torch.dtype, *shape: int) -> Any:
    """A `Leaf`, for a field that holds tensors."""
    return Leaf(dtype, shape)


def held_dtype(dtype: torch.dtype) -> torch.dtype:
    """As what a tensor of this dtype is held."""
    return torch.int32 if dtype.is_floating_point else dtype


def taken_apart(parts: Parts) -> tuple[Parts, dict[str, torch.Tensor]]:
    """A template, `parts` with a `Leaf` for each tensor, and the tensors as they are held."""
    held: dict[str, torch.Tensor] = {}
    template = {name: _emptied(name, part, held) for name, part in parts.items()}
    return template, held


def _emptied(name: str, part: Any, held: dict[str, torch.Tensor]) -> Any:
    left: dict[str, Any] = {}
    for field, value in part._asdict().items():
        if isinstance(value, torch.Tensor):
            held[f"{name}_{field}"] = value.view(held_dtype(value.dtype))
            left[field] = Leaf(value.dtype, tuple(value.shape))
        elif hasattr(value, "_asdict"):
            left[field] = _emptied(f"{name}_{field}", value, held)
    return part._replace(**left)


class Assembly:
    """The inverse of `taken_apart` for one template, made beforehand: it is called often."""

    def __init__(self, template: Parts) -> None:
        self.leaves: list[Leaf] = []
        self._parts = {name: self._steps(part) for name, part in template.items()}

    def _steps(self, part: Any) -> tuple[Any, list[tuple[int, Any]]]:
        """How to make a part, and for each field what to do and with what."""
        steps: list[tuple[int, Any]] = []
        for value in part:
            if isinstance(value, Leaf):
                floating = value.dtype.is_floating_point
                steps.append((_VIEW, value.dtype) if floating else (_TAKE, None))
                self.leaves.append(value)
            elif hasattr(value, "_asdict"):
                steps.append((_NEST, self._steps(value)))
            else:
                steps.append((_KEEP, value))
        return type(part)._make, steps

    def __call__(self, held: Iterable[torch.Tensor]) -> Parts:
        """The parts; of `held`, in the order of `taken_apart`, nothing is copied."""
        tensors = iter(held)
        return {name: _made(part, tensors) for name, part in self._parts.items()}


_TAKE, _VIEW, _KEEP, _NEST = range(4)


def _made(part: tuple[Any, list[tuple[int, Any]]], held: Iterator[torch.Tensor]) -> Any:
    make, steps = part
    fields = []
    for what, value in steps:
        if what == _TAKE:
            fields.append(next(held))
        elif what == _VIEW:
            fields.append(next(held).view(value))
        elif what == _KEEP:
            fields.append(value)
        else:
            fields.append(_made(value, held))
    return make(fields)
