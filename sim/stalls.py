"""When a side of the bench stalls."""

from collections.abc import Callable
from random import Random


def flow(random: Random, probability: float, longest: int) -> Callable[[], bool]:
    """A function that says, cycle by cycle, whether a side may move.

    Args:
        random: where chance comes from; one draw a cycle while `longest` is 1.
        probability: that a stall begins in a cycle that could move, below 1.
        longest: a stall lasts 1 to `longest` cycles.
    """
    chance = random.random
    if longest == 1:
        return lambda: chance() >= probability
    left = 0

    def moves() -> bool:
        nonlocal left
        if not left and chance() < probability:
            left = random.randint(1, longest)
        if left:
            left -= 1
            return False
        return True

    return moves
