"""What a GPU benchmark runs beside ours: a kernel of another package, by an adapter of its own.

An adapter is a module with these names:

    PACKAGE   what is imported; the adapter is only loaded where it is installed
    BITS      sizes it is run at, whole bits per weight before scales
    NOTE      what of it was tried
    prepare   a layer's weights in its format, ready to be called

None is imported before a benchmark asks for it.
"""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, cast

import torch

from algo.errors import LiftError

NOT_RUN = "written after its documentation, not run"

ADAPTERS = {
    "gemlite": "liftquant.gpu_peer_gemlite",
    "torchao": "liftquant.gpu_peer_torchao",
    "bitblas": "liftquant.gpu_peer_bitblas",
    "marlin": "liftquant.gpu_peer_marlin",
}
PACKAGES = {"gemlite": "gemlite", "torchao": "torchao", "bitblas": "bitblas", "marlin": "vllm"}


class Prepared(NamedTuple):
    """A layer in a peer's format.

    Attributes:
        call: ``(tokens, columns)`` to ``(tokens, rows)``, both of `dtype`.
        bits_per_weight: scales and zeros included.
        dtype: of activations.
    """

    call: Callable[[torch.Tensor], torch.Tensor]
    bits_per_weight: float
    dtype: torch.dtype = torch.float16


class Adapter(Protocol):
    """A peer's module."""

    BITS: tuple[int, ...]
    NOTE: str

    def prepare(self, weights: torch.Tensor, bits: int) -> Prepared:
        """Quantise float16 ``(rows, columns)`` by rounding, in groups along the columns."""


def check_peers(names: Sequence[str]) -> None:
    """Raise LiftError where a peer is not known."""
    for name in names:
        if name not in ADAPTERS:
            raise LiftError(f"--against {name} is none of {', '.join(ADAPTERS)}")


def installed(name: str) -> bool:
    """Whether a peer's package can be found, without importing it."""
    return importlib.util.find_spec(PACKAGES[name]) is not None


def adapter(name: str) -> Adapter:
    """A peer's adapter."""
    return cast(Adapter, importlib.import_module(ADAPTERS[name]))


class Grouped(NamedTuple):
    """Weights as ``(codes - zeros) * scales`` in groups along the columns.

    Attributes:
        codes: uint8 ``(rows, columns)``.
        scales, zeros: float16 ``(rows, columns/group)``.
        group: columns of a group.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor
    group: int

    @property
    def bits_per_weight(self) -> float:
        """With a float16 scale and zero each group; `codes` at their width are added by peers."""
        return 32 / self.group


def group_size(columns: int) -> int:
    """The largest of the usual group sizes that divides the columns.

    Raises:
        LiftError: none does.
    """
    fitting = [size for size in (128, 64, 32) if columns % size == 0]
    if not fitting:
        raise LiftError(f"no group of 128, 64 or 32 divides {columns} columns")
    return fitting[0]


def grouped(weights: torch.Tensor, bits: int) -> Grouped:
    """Round float16 weights to `bits` bits, each group between its least and largest weight."""
    rows, columns = weights.shape
    group = group_size(columns)
    parts = weights.float().reshape(rows, columns // group, group)
    least, largest = parts.amin(-1), parts.amax(-1)
    scales = ((largest - least) / (2**bits - 1)).clamp(min=1e-6).half()
    zeros = (-least / scales.float()).half()
    codes = torch.round(parts / scales.float()[..., None] + zeros.float()[..., None])
    codes = codes.clamp(0, 2**bits - 1).to(torch.uint8).reshape(rows, columns)
    return Grouped(codes, scales, zeros, group)
