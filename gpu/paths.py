"""The paths by name: one layer's exact product, each by other kernels.

Every path takes the same digits and gives the same float32 results, which the tests hold to.
Compiled offline and run under the interpreter; not run on a GPU.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from algo.activations import BASE, Digits, product_rounded_once
from algo.errors import LiftError
from algo.matrix import PackedMatrix
from algo.packing import extend_words
from gpu.dispatch import layer_class
from gpu.interpret import Run
from gpu.tables import code_tables
from gpu.tuning_table import Choice

Product = Callable[[], torch.Tensor]


class PathLayer:
    """A layer on one device, as the paths read it.

    Args:
        matrix: the packed weights.
        digits: 1 (a8) or 2 (a15) int8 digits per activation.
        device: where its tensors are.
        run: `gpu.interpret.as_is` on a GPU, or an interpreter's.
    """

    def __init__(
        self, matrix: PackedMatrix, digits: Digits, device: torch.device, run: Run
    ) -> None:
        self.matrix = matrix
        self.device = device
        self.run = run
        self.digits: Digits = digits
        self.layer = layer_class(*matrix.shape, matrix.code, matrix.axis, digits)

    def candidates(self, columns: int) -> Sequence[Choice]:
        """The choices worth trying for so many columns."""
        return [Choice(path="dense")]

    def product(self, choice: Choice, digits: torch.Tensor, step: torch.Tensor) -> Product:
        """What carries out a choice; inputs are laid out for it here, once.

        Args:
            choice: any of `candidates`.
            digits: int8 ``(digits, tokens, columns)``, least significant first.
            step: float32 ``(tokens,)``.

        Returns:
            A function that launches and returns float32 ``(tokens, rows)``.

        Raises:
            LiftError: the choice is none of this layer's.
        """
        if choice != Choice(path="dense"):
            raise LiftError(f"{choice} is no choice for {self.layer}")
        return lambda: self._dense(digits, step)

    def _dense(self, digits: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        from gpu.decode import decode_kernel, launch

        m = self.matrix
        words = torch.from_numpy(extend_words(m.words, m.groups, m.code).view(np.int32))
        tables = code_tables(m.code, self.device)
        accs = launch(self.run(decode_kernel), words.to(self.device), tables, m.groups, torch.int16)
        accs = accs[:, : m.stream_weights].double()
        integers = sum(d.double() * BASE**k for k, d in enumerate(digits))
        sums = integers @ (accs.T if m.axis == "in" else accs)
        scaled = sums.cpu() * (m.scales.double() * 2.0**-m.code.exponent)
        rounded = product_rounded_once(scaled.numpy(), step.double().cpu().numpy()[:, None])
        return torch.from_numpy(rounded).to(self.device)
