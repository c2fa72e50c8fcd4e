"""What there is to compile of a kernel, and what a trip of its loop gets through."""

from dataclasses import dataclass
from typing import Any, Literal

Unit = Literal["bit", "weight", "value"]


@dataclass(frozen=True)
class Work:
    """What one trip of the loop in the kernel's source gets through, summed over the program.

    The compiler may unroll, so how many trips the loop in the machine code holds is counted there:
    by its tensor instructions, else by what it stores, else by what it loads. Say what is known.

    Attributes:
        unit: what is counted: stored bits (of the one-bit matrix), weights, or values (of an
            activation or output).
        per_trip: units a trip gets through; where there is no loop, the whole program.
        columns: columns that each unit is multiplied with by tensor instructions, one
            multiply-accumulate each; 0 where there are none.
        stored_bytes: bytes that a trip stores to global memory; 0 where it stores none. Without
            tensor instructions only what stores can be the loop.
        loaded_bytes: bytes that a trip loads from global memory, each once; 0 where they are not
            so simply told.
        nested_trips: turns, per trip, of the loops that stay loops inside of it; None: not told.
    """

    unit: Unit
    per_trip: int
    columns: int = 0
    stored_bytes: int = 0
    loaded_bytes: int = 0
    nested_trips: int | None = None


@dataclass(frozen=True)
class KernelJob:
    """One kernel to compile: its types, its constants and the arguments divisible by 16.

    Attributes:
        kernel: name of kernel and configuration, unique together with `code`.
        code: name of the code, or ``any`` where the machine code does not depend on it.
        function: what ``@triton.jit`` made.
        signature: Triton's type of every argument that is not a constant.
        constants: values of the others.
        aligned: arguments that are multiples of 16.
        options: of the compiler, ``num_warps`` and the like.
        work: what its loop gets through; None where instructions per unit would mean nothing.
        batch_one: this is what is launched for a single token.
        targets: the targets it is for, where its form or size suits only some; all if empty.
    """

    kernel: str
    code: str
    function: Any
    signature: dict[str, str]
    constants: dict[str, int]
    aligned: tuple[str, ...]
    options: dict[str, int]
    work: Work | None = None
    batch_one: bool = False
    targets: tuple[str, ...] = ()

    def suits(self, target: str) -> bool:
        """Whether it is launched on `target`."""
        return not self.targets or target in self.targets
