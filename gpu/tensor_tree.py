"""NamedTuples of tensors taken apart and put together again, nested ones too.

Integers are what is held: floating-point tensors lie as the int32 of the same bits, which nothing
that casts a module's floating-point tensors touches.
"""

from collections.abc import Iterator
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


def taken_apart(parts: Parts) -> tuple[Parts, dict[str, torch.Tensor]]:
    """A template, `parts` with a `Leaf` for each tensor, and the tensors as they are held."""
    held: dict[str, torch.Tensor] = {}
    template = {name: _emptied(name, part, held) for name, part in parts.items()}
    return template, held


def _emptied(name: str, part: Any, held: dict[str, torch.Tensor]) -> Any:
    left: dict[str, Any] = {}
    for field, value in part._asdict().items():
        if isinstance(value, torch.Tensor):
            floating = value.is_floating_point()
            held[f"{name}_{field}"] = value.view(torch.int32) if floating else value
            left[field] = Leaf(value.dtype, tuple(value.shape))
        elif hasattr(value, "_asdict"):
            left[field] = _emptied(f"{name}_{field}", value, held)
    return part._replace(**left)


def put_together(template: Parts, held: Iterator[torch.Tensor]) -> Parts:
    """The inverse of `taken_apart`; of `held`, in the same order, nothing is copied."""
    return {name: _filled(part, held) for name, part in template.items()}


def _filled(part: Any, held: Iterator[torch.Tensor]) -> Any:
    fields: dict[str, Any] = {}
    for field, value in part._asdict().items():
        if isinstance(value, Leaf):
            tensor = next(held)
            fields[field] = tensor.view(value.dtype) if value.dtype.is_floating_point else tensor
        elif hasattr(value, "_asdict"):
            fields[field] = _filled(value, held)
    return part._replace(**fields)


def leaves(template: Parts) -> list[Leaf]:
    """The leaves of a template in the order of the tensors."""

    def within(part: Any) -> Iterator[Leaf]:
        for value in part:
            if isinstance(value, Leaf):
                yield value
            elif hasattr(value, "_asdict"):
                yield from within(value)

    return [leaf for part in template.values() for leaf in within(part)]
