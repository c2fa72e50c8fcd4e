"""A layer with activations, ready to run by every path: what tuning and the benchmark measure."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch

from algo.activations import Digits as DigitCount
from algo.activations import quantise_activations
from algo.matrix import PackedMatrix
from gpu.exact_layer import decoded_weights, exact_layer
from gpu.planes import Digits
from gpu.random_layer import random_activations
from gpu.tuning_table import Choice, LayerClass


class Preparation(NamedTuple):
    """What makes a layer's digits of its activations: `gpu.planes.Digits`.

    Attributes:
        run: by the kernels.
        expected: by the reference, on the CPU.
    """

    run: Callable[[], Digits]
    expected: Callable[[], Digits]

    def differs(self) -> str | None:
        """What of the kernels' result is not the reference's; NaN steps count as equal."""
        got, want = self.run(), self.expected()
        if got.per_token != want.per_token:
            return f"{got.per_token} columns per token, not {want.per_token}"
        for name in ("planes", "sums", "step"):
            a, b = getattr(got, name).cpu(), getattr(want, name)
            if (
                a.dtype != b.dtype
                or a.shape != b.shape
                or not bool(((a == b) | (a.isnan() & b.isnan())).all())
            ):
                return f"{name} differ from the reference"
        return None


class Paths(Protocol):
    """What `gpu.paths.PathLayer` is to those that measure."""

    matrix: PackedMatrix
    layer: LayerClass
    device: torch.device
    digits: DigitCount

    def candidates(self, columns: int) -> Sequence[Choice]:
        """The choices worth trying for so many columns."""

    def preparation(self, choice: Choice, x: torch.Tensor) -> Preparation:
        """What makes the digits of float16 activations that a choice reads."""

    def product(
        self, choice: Choice, digits: torch.Tensor, step: torch.Tensor
    ) -> Callable[[], torch.Tensor]:
        """A function that carries out a choice on digits laid out for it."""


class LayerWorkload:
    """A layer and random activations of some tokens.

    Attributes:
        x: float16 ``(tokens, columns)``, whitened activations, on the layer's device.
    """

    def __init__(self, paths: Paths, tokens: int, seed: int = 0) -> None:
        self._paths = paths
        self.columns = tokens * paths.layer.digits
        self.x = random_activations(tokens, paths.matrix.shape[1], seed).to(paths.device)
        self._digits, self._step = quantise_activations(self.x, paths.digits)
        self._products: dict[Choice, Callable[[], torch.Tensor]] = {}

    @property
    def candidates(self) -> Sequence[Choice]:
        return self._paths.candidates(self.columns)

    def run(self, choice: Choice) -> torch.Tensor:
        if choice not in self._products:
            # one layout at a time: those of all choices together may not fit
            self._products = {choice: self._paths.product(choice, self._digits, self._step)}
        return self._products[choice]()

    def expected(self) -> torch.Tensor:
        return exact_layer(self._paths.matrix, self._digits, self._step)


def identity_differs(paths: Paths, choice: Choice, block: int = 256) -> tuple[int, int] | None:
    """FLUTE's test: a layer of the identity is its decoded weights.

    Digits of the identity count in steps of 1, so that nothing rounds but the weights' own scaling,
    which is exact.

    Args:
        block: tokens at a time.

    Returns:
        The first ``(row, column)`` of a weight that differs, None if all are equal.
    """
    weights = decoded_weights(paths.matrix, paths.device)
    size = weights.shape[1]
    for first in range(0, size, block):
        tokens = min(block, size - first)
        digits = torch.zeros((paths.digits, tokens, size), dtype=torch.int8, device=paths.device)
        within = torch.arange(tokens, device=paths.device)
        digits[0, within, first + within] = 1
        step = torch.ones(tokens, device=paths.device)
        got = paths.product(choice, digits, step)()
        wrong = (got != weights.T[first : first + tokens]).nonzero()
        if len(wrong):
            token, row = wrong[0].tolist()
            return row, first + token
    return None
