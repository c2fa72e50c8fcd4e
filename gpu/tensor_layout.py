"""How often a program's warps repeat each other's tensor instructions.

Triton gives every warp whole tensor instructions. Where the tile holds fewer of them than there are
warps, warps compute the same, and counts of instructions say more than was done. The layouts in
Triton's own intermediate code tell.
"""

import re
from collections import Counter
from fractions import Fraction
from math import prod

_LAYOUT = re.compile(r"^#(\w+) = #ttg\.(?:nvidia_mma|amd_mfma|amd_wmma)<\{(.*)\}>", re.MULTILINE)
_DOT = re.compile(r"\b(?:tt\.dot|ttng\.warp_group_dot) .*-> tensor<(\d+)x(\d+)x\w+, #(\w+)>")


def repetition(ttgir: str) -> Fraction:
    """Work of the tensor instructions over work of the products they are for, 1 or more.

    Of products with different ratios that of the most counts: a loop has more than what follows.

    Args:
        ttgir: Triton's intermediate code for GPUs (``compiled.asm["ttgir"]``).
    """
    layouts = {name: _covered(fields) for name, fields in _LAYOUT.findall(ttgir)}
    found: Counter[Fraction] = Counter()
    for rows, columns, name in _DOT.findall(ttgir):
        if name in layouts:
            shape = (int(rows), int(columns))
            pairs = zip(layouts[name], shape, strict=True)
            found[
                prod((max(Fraction(1), Fraction(c, s)) for c, s in pairs), start=Fraction(1))
            ] += 1
    return found.most_common(1)[0][0] if found else Fraction(1)


def _covered(fields: str) -> tuple[int, int]:
    """Rows and columns that all warps together cover with one instruction each."""
    warps, shape = (_list(name, fields) for name in ("warpsPerCTA", "instrShape"))
    return warps[0] * shape[0], warps[1] * shape[1]


def _list(name: str, fields: str) -> list[int]:
    match = re.search(rf"\b{name} = \[([\d, ]+)\]", fields)
    return [int(number) for number in match[1].split(",")] if match else [1, 1]
