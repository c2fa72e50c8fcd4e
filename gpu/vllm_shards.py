"""Which rows of which stored matrices a linear layer of vLLM holds on its rank.

vLLM fuses layers that read one input (``qkv_proj``, ``gate_up_proj``) into logical parts, and
divides these among the ranks of tensor parallelism. Whitening mixes all inputs of a layer, so every
layer is divided by outputs, those too whose inputs vLLM divides.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from algo.errors import LiftError


class Logical(NamedTuple):
    """A logical part of a layer, and the share of a rank.

    Attributes:
        rows: of the whole part.
        share: index of the share this rank holds.
        shares: equal ones that the part is divided into; ranks may hold the same.
    """

    rows: int
    share: int = 0
    shares: int = 1


class Part(NamedTuple):
    """Rows ``start..stop`` of a stored matrix, the `member`-th of the layer."""

    member: int
    start: int
    stop: int


def members_of(prefix: str, packed: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of the layers that vLLM made the layer `prefix` of.

    Args:
        prefix: name of vLLM's layer, ``model.layers.0.self_attn.qkv_proj``.
        packed: vLLM's ``packed_modules_mapping``, by the last part of such a name.
    """
    parent, dot, leaf = prefix.rpartition(".")
    return [f"{parent}{dot}{member}" for member in packed.get(leaf, (leaf,))]


def parts_of(name: str, stored: Sequence[int], logical: Sequence[Logical]) -> list[Part]:
    """This rank's rows, in the order in which vLLM wants the outputs.

    A stored matrix may be several logical parts (a model that is stored with q, k and v fused),
    never the other way round.

    Args:
        name: of vLLM's layer, for errors.
        stored: rows of the stored matrices.
        logical: parts in the order of the layer's outputs.

    Raises:
        LiftError: the rows do not add up.
    """
    parts = []
    member = used = 0
    for part in logical:
        if member == len(stored) or used + part.rows > stored[member]:
            break
        first = used + part.share * part.rows // part.shares
        last = used + (part.share + 1) * part.rows // part.shares
        parts.append(Part(member, first, last))
        used += part.rows
        if used == stored[member]:
            member, used = member + 1, 0
    if member < len(stored) or len(parts) < len(logical):
        raise LiftError(
            f"layer {name} has outputs {[part.rows for part in logical]} in vLLM, but its "
            f"checkpoint stores matrices of {list(stored)} rows; config.json is of another model"
        )
    return parts


def joined(parts: Sequence[Part]) -> list[Part]:
    """The same rows in the same order, those that follow one another in a matrix as one part."""
    out: list[Part] = []
    for part in parts:
        if out and (out[-1].member, out[-1].stop) == (part.member, part.start):
            out[-1] = out[-1]._replace(stop=part.stop)
        else:
            out.append(part)
    return out
