"""What a decoder makes of its sums: their width, and their scaling to integers; plain values."""

from dataclasses import dataclass

from algo.errors import LiftError

ACC_WIDTH = 12  # signed; a valid code's sums stay within +-2047
MAX_WIDTH = 32


@dataclass(frozen=True)
class Scale:
    """A row scale as accelerators apply it: ``acc * multiplier / 2**shift``, rounded half away
    from zero and saturated (`algo.activations.requantise`).

    Attributes:
        axis: ``in``: streams run along the input channels, so a stream is a row and has one
            multiplier. ``out``: streams run along the output channels, so every weight position
            of a stream is a row and has its own, the same in all streams of a matrix.
        multiplier_bits: width of the unsigned multipliers, 1..31.
        shift: 1..62.

    Raises:
        LiftError: a value is unknown or out of range.
    """

    axis: str
    multiplier_bits: int
    shift: int

    def __post_init__(self) -> None:
        if self.axis not in ("in", "out"):
            raise LiftError(f"axis={self.axis!r}: scales belong to streams (in) or weights (out)")
        if not 1 <= self.multiplier_bits <= 31:
            raise LiftError(f"multiplier_bits={self.multiplier_bits}: multipliers have 1..31 bits")
        if not 1 <= self.shift <= 62:
            raise LiftError(f"shift={self.shift}: a scaled sum is shifted by 1..62 bits")


@dataclass(frozen=True)
class Output:
    """One decoded weight as the decoder gives it.

    Attributes:
        width: bits of a weight, 2..32. Sums, which have 12, are sign-extended to more and saturate
            in fewer.
        scale: requantise the sums; without it they leave as they are.

    Raises:
        LiftError: the width is out of range.
    """

    width: int = ACC_WIDTH
    scale: Scale | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.width <= MAX_WIDTH:
            raise LiftError(f"width={self.width}: a weight has 2..{MAX_WIDTH} bits")

    @property
    def stages(self) -> int:
        """Registers that this adds behind the projection."""
        if self.scale is not None:
            return 3  # magnitude, product, rounded result
        return int(self.width < ACC_WIDTH)


SUMS = Output()


def parse_scale(text: str) -> Scale:
    """``in:16:20``: axis, bits of a multiplier, shift.

    Raises:
        LiftError: it is none of that form, or a value is out of range.
    """
    axis, *numbers = text.split(":")
    if len(numbers) != 2 or not all(n.isascii() and n.isdigit() for n in numbers):
        raise LiftError(f"scale {text!r} is not AXIS:MULTIPLIER_BITS:SHIFT, say in:16:20")
    return Scale(axis, int(numbers[0]), int(numbers[1]))
