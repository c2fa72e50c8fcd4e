"""The paper's search for block codes, kept plain as the baseline to beat.

LiftQuant (arXiv 2606.04050, section 3.3): pad the target with each of the ``2**(D-d)`` sign
patterns of M's null space, invert the square system, take signs, keep the best.
"""

import itertools

import numpy as np
import numpy.typing as npt
import torch

from algo.code import LiftCode
from algo.errors import LiftError

CACHED = 1 << 16  # candidate codewords at a time that stay in the cache: the fastest of those tried
PLAIN = 1 << 22  # as many as fit comfortably in memory, which is how one would write it first


def encode_groups_by_nullspace(
    targets: npt.NDArray[np.float32], code: LiftCode, candidates: int = CACHED
) -> npt.NDArray[np.uint8]:
    """Bits of the best candidate for every group.

    Args:
        targets: float32 ``(n, d)``, unit variance.
        code: a block code without parities.
        candidates: codewords to try at a time; decides speed and memory, not the result.

    Returns:
        uint8 0/1 of shape ``(n, D)``.

    Raises:
        LiftError: the code has overlapping windows or parities, for which M has no null space here.
    """
    if code.overlap or code.parities:
        raise LiftError(f"{code.name} is no block code: the null-space search does not apply")
    m = torch.from_numpy(code.taps.astype(np.float32)) * 2.0**-code.exponent
    null = torch.linalg.svd(m, full_matrices=True).Vh[code.group :]  # rows span the null space
    patterns = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=len(null))))
    # null's rows are orthonormal: a sign vector's coordinate along one is of unit size, so pad +-1
    inverse = torch.linalg.inv(torch.cat([m, null]))
    particular, padding = inverse[:, : code.group], inverse[:, code.group :] @ patterns.T
    out = []
    for z in torch.split(torch.from_numpy(targets), max(1, candidates // len(patterns))):
        lifted = (z @ particular.T)[:, None, :] + padding.T[None]
        signs = torch.where(lifted >= 0, 1.0, -1.0)
        error = (signs @ m.T - z[:, None, :]).square().sum(-1)
        best = error.argmin(1)
        out.append(signs[torch.arange(len(z)), best] > 0)
    return torch.cat(out).to(torch.uint8).numpy()
