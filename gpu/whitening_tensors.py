"""A whitening transform as the kernels read it; importing this does not import Triton."""

from typing import NamedTuple

import torch

from algo.whitening import Whitening

PAD = 64  # rows of the right factor come in multiples of it, so that its loads need no masks


class WhiteningTensors(NamedTuple):
    """A transform as the kernel reads it.

    Attributes:
        left: float32 ``(a, a)``, the left factor transposed.
        right: float32 ``(b, b')``, the right one, zero columns after its own.
        pre: float32 ``(a*b,)`` or None.
    """

    left: torch.Tensor
    right: torch.Tensor
    pre: torch.Tensor | None


def whitening_tensors(whitening: Whitening, device: torch.device | str = "cpu") -> WhiteningTensors:
    """The tensors of `whitening` on `device`; make them once and keep them."""
    padded = torch.nn.functional.pad(whitening.right.float(), (0, -len(whitening.right) % PAD))
    pre = whitening.pre
    return WhiteningTensors(
        whitening.left.float().T.contiguous().to(device),
        padded.to(device),
        None if pre is None else pre.float().to(device),
    )
