"""The projection of an engine as a program of additions and shifts; plain values.

A weight position's sum ``sum_j taps[j] * S_j`` over signed sums is, with ``S_j = X - 2 * R_j``
(R_j: the activations at clear bits, X: all of them),
``X * sum_j taps[j] - sum_j 2 * taps[j] * R_j``. Every constant is written in signed digits, no two
neighbours of which are nonzero (canonical form; Reitwiesner 1960). One accumulator then goes from
the highest digit place to the lowest, doubling itself from place to place and adding or subtracting
an operand for every digit: no multiplier, and one operand at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from algo.code import LiftCode
from algo.errors import LiftError


@dataclass(frozen=True)
class Op:
    """``acc = (0 if first else 2 * acc if shift else acc) + (-operand if negative else operand)``.

    Attributes:
        operand: j for the sum ``R`` of bit ``g*D + j`` of the stream, or None for X.
        negative: subtract.
        shift: double the accumulator before.
        first: clear the accumulator before.
        last: the weight position is complete after.
    """

    operand: int | None
    negative: bool
    shift: bool
    first: bool = False
    last: bool = False


def check_no_parities(code: LiftCode) -> None:
    """Raise LiftError where `code` has parities, which no sum of an engine stands for."""
    if code.parities:
        plain = code.name.partition("^")[0]
        raise LiftError(
            f"{code.name} has {len(code.parities)} parities: in the fused product each would be a "
            f"lifted row of its own; use a code without, say {plain}, or a decoder"
        )


def signed_digits(value: int) -> dict[int, int]:
    """Places and digits, 1 or -1, of the canonical signed-digit form of `value`."""
    digits, place = {}, 0
    while value:
        if value & 1:
            digit = 2 - (value & 3)  # 1 before ..01, -1 before ..11
            digits[place] = digit
            value -= digit
        value >>= 1
        place += 1
    return digits


def projection_program(code: LiftCode) -> tuple[tuple[Op, ...], ...]:
    """The operations of each of the d weight positions of a group, in order.

    Raises:
        LiftError: the code has parities.
    """
    check_no_parities(code)
    return tuple(_one_weight(row) for row in code.taps.tolist())


def run_program(ops: Sequence[Op], sums: Sequence[int], total: int) -> int:
    """What the accumulator holds after `ops`: the semantics that hardware is compared with.

    Args:
        ops: of one weight position.
        sums: R of the D + V bits from the group's first.
        total: X.
    """
    acc = 0
    for op in ops:
        value = total if op.operand is None else sums[op.operand]
        acc = (0 if op.first else 2 * acc if op.shift else acc) + (-value if op.negative else value)
    return acc


def _one_weight(taps: list[int]) -> tuple[Op, ...]:
    constants: list[tuple[int | None, int]] = [(j, -2 * tap) for j, tap in enumerate(taps) if tap]
    constants.append((None, sum(taps)))
    places: dict[int, list[tuple[int | None, bool]]] = {}
    for operand, constant in constants:
        for place, digit in signed_digits(constant).items():
            places.setdefault(place, []).append((operand, digit < 0))
    ops: list[Op] = []
    for place in range(max(places, default=0), -1, -1):
        # a place without digits still doubles: plus and minus the same operand
        terms = places.get(place) or [(None, False), (None, True)]
        ops += [Op(operand, negative, n == 0) for n, (operand, negative) in enumerate(terms)]
    return tuple(
        Op(op.operand, op.negative, op.shift and n > 0, n == 0, n == len(ops) - 1)
        for n, op in enumerate(ops)
    )
