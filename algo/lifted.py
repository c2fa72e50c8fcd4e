"""The integer layer by way of one one-bit product, and the bounds of its integers.

Groups are lifted linearly, so a code's taps can be moved to the other side of the product. With
``B`` the signs of the streams and K its inner dimension, a layer is

* axis ``out``: ``y = project(B x)``. B is ``(G*D, columns)``, the stream bits of all columns; the
  taps turn the sums of stream bits into the weights' sums.
* axis ``in``: ``y = B lift(x)``. B is ``(rows, G*D)``; the taps turn activations into what a
  stream bit is worth. `lift` is the transpose of `project`.

Either way the product itself knows nothing of codes, and all of it is integers.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from algo.activations import BASE, LARGEST, Digits
from algo.code import LiftCode
from algo.errors import LiftError
from algo.matrix import Axis, PackedMatrix
from algo.packing import Words, check_stream, stream_groups, transpose_words, unpack_bits

Int64Array = npt.NDArray[np.int64]

LIFTED_BASE = 256  # of the digits of lifted activations: all of int8 is used
MAX_DIGITS = 4
# a byte of bits takes up to 128 * 128 of an int32 accumulator, see gpu.bitmm
MAX_INNER = (2**31 - 1) // 2**14 * 8
# such a sum times a row scale of 8 significant bits is exact in float64
MAX_COMBINED = 2**45


def one_bit_words(matrix: PackedMatrix) -> Words:
    """The bit matrix of the one-bit product, bits contiguous along its inner dimension.

    Returns:
        uint32 ``(rows, ceil(G*D/32))`` as stored on axis ``in``; ``(G*D, ceil(columns/32))`` on
        axis ``out``.

    Raises:
        LiftError: the code has parities, or a padding bit is set.
    """
    check_liftable(matrix.code)
    bits = matrix.groups * matrix.code.lifted
    if matrix.axis == "out":
        return transpose_words(matrix.words, bits)
    unpack_bits(matrix.words, bits)  # for its check of the padding
    return matrix.words


def check_liftable(code: LiftCode) -> None:
    """Raise LiftError where a code has parities, which are no bits of the one-bit product."""
    if code.parities:
        raise LiftError(
            f"{code.name} has {len(code.parities)} parities, which the one-bit product does not "
            "hold; decode the layer, or quantise it with --no-parities"
        )


def project(sums: Int64Array, code: LiftCode, weights: int) -> Int64Array:
    """Sums of stream bits to sums of weights, exactly.

    ``out[g*d + i] = sum_j taps[i, j] * sums[(g*D + j) mod (G*D)]``.

    Args:
        sums: int64 ``(G*D, n)``.
        code: a code without parities.
        weights: weights of a stream; those that pad the last group are dropped.

    Returns:
        int64 ``(weights, n)``.

    Raises:
        LiftError: the code has parities, or there are not as many sums as stream bits.
    """
    check_liftable(code)
    groups = stream_groups(weights, code)
    if sums.ndim != 2 or len(sums) != groups * code.lifted:
        raise LiftError(
            f"sums of stream bits have shape {sums.shape}; {weights} weights in {code.name} need "
            f"({groups * code.lifted}, n)"
        )
    grouped = np.asarray(sums, np.int64).reshape(groups, code.lifted, -1)
    out = np.zeros((groups, code.group, sums.shape[1]), np.int64)
    for j in range(code.lifted + code.overlap):
        feature = np.roll(grouped, -(j // code.lifted), axis=0)[:, j % code.lifted]
        out += code.taps[:, j].astype(np.int64)[:, None] * feature[:, None]
    return out.reshape(groups * code.group, -1)[:weights]


def lift(integers: Int64Array, code: LiftCode, groups: int) -> Int64Array:
    """Activations to what each stream bit is worth: the transpose of `project`.

    ``out[(g*D + j) mod (G*D)] = sum_i taps[i, j] * integers[g*d + i]``, summed over all ``g, j``.

    Args:
        integers: ``(tokens, columns)``, ``columns <= G*d``; the padding weights' are zero.
        code: a code without parities.
        groups: G.

    Returns:
        int64 ``(tokens, G*D)``.

    Raises:
        LiftError: the code has parities, or the columns are not those of so many groups.
    """
    check_liftable(code)
    check_stream(groups, code)
    tokens, columns = integers.shape
    if not groups * code.group - code.group < columns <= groups * code.group:
        raise LiftError(
            f"{columns} activations do not fill {groups} groups of {code.group} weights"
        )
    padded = np.zeros((tokens, groups * code.group), np.int64)
    padded[:, :columns] = integers
    grouped = padded.reshape(tokens, groups, code.group)
    out = np.zeros((tokens, groups, code.lifted), np.int64)
    for j in range(code.lifted + code.overlap):
        worth = grouped @ code.taps[:, j].astype(np.int64)
        out[:, :, j % code.lifted] += np.roll(worth, j // code.lifted, axis=1)
    return out.reshape(tokens, groups * code.lifted)


def digit_range(base: int, count: int) -> tuple[int, int]:
    """Least and largest integer of `count` digits ``-base/2 .. base/2 - 1`` of an even base."""
    unit = (base**count - 1) // (base - 1)
    return -(base // 2) * unit, (base // 2 - 1) * unit


def signed_digits(values: Int64Array, base: int, count: int) -> npt.NDArray[np.int8]:
    """Digits ``-base/2 .. base/2 - 1`` of integers, least significant first.

    The digits are unique, so that any way of making them agrees.

    Args:
        values: integers of any shape.
        base: even, at most 256.
        count: digits.

    Returns:
        int8 ``(count, *values.shape)``.

    Raises:
        LiftError: a value has more digits, or the base no int8 digits.
    """
    if base % 2 or not 2 < base <= LIFTED_BASE or count < 1:
        raise LiftError(f"{count} digits of base {base}: need an even base of 4 to {LIFTED_BASE}")
    least, largest = digit_range(base, count)
    rest = np.asarray(values, np.int64)
    if rest.size and (rest.min() < least or rest.max() > largest):
        raise LiftError(
            f"integers of {rest.min()} to {rest.max()} do not fit {count} digits of base {base}, "
            f"which hold {least} to {largest}; use more digits"
        )
    out = np.empty((count, *rest.shape), np.int8)
    for k in range(count):
        upper = (rest + base // 2) // base
        out[k] = rest - upper * base
        rest = upper
    return out


def from_digits(digits: npt.NDArray[np.int8], base: int) -> Int64Array:
    """The inverse of `signed_digits`: int64 of the digits' shape without its first axis."""
    out = np.zeros(digits.shape[1:], np.int64)
    for digit in digits[::-1]:
        out = out * base + digit
    return out


class Bounds(NamedTuple):
    """Largest magnitudes of a layer's integers, whatever the bits and the activations.

    Operands and `sums` fit int32 in any layer that is not refused; `projected` and `combined` need
    int64 in a large one.

    Attributes:
        inner: K of the one-bit product.
        base: of the digits it multiplies: 128 on axis ``out``, 256 on axis ``in``.
        digits: how many digits an operand has.
        operand: what the bits are multiplied with: activations or, on axis ``in``, lifted ones.
        digit: one digit of it.
        sums: the one-bit product of one digit.
        projected: the same after the projection; of axis ``in``, where there is none, `sums`.
        combined: the digits' results together: the layer's integer.
    """

    inner: int
    base: int
    digits: int
    operand: int
    digit: int
    sums: int
    projected: int
    combined: int

    @property
    def per_token(self) -> int:
        """Columns of digits per token: three digits are padded to four."""
        return 1 << (self.digits - 1).bit_length()


def bounds(shape: tuple[int, int], code: LiftCode, axis: Axis, digits: Digits) -> Bounds:
    """How large the integers of a layer can become.

    Activations are at most ``A = 127`` (a8) or ``127 * 128`` (a15), of digits of at most 127.
    A weight's window holds taps of ``S_i = sum_j |taps[i, j]|``; let ``S`` be the largest.

    Axis ``out``: a sum of K = columns signed digits is at most ``127*K``, projected ``127*K*S``,
    and combined ``A*K*S``, all three reached where the signs of the bits agree with the digits'
    and the taps'.

    Axis ``in``: K = G*D. Bit ``p`` lies in the windows that hold it as feature ``j``, ``j = p mod
    D``, one group for each such ``j``, so a lifted activation is at most
    ``A * max_p sum_i sum_{j = p mod D} |taps[i, j]|``, which is reached. Its digits of base 256
    are in -128..127: a lower one can be -128, the highest of ``n`` is at most what the largest
    operand leaves. A sum of one digit is at most ``128*K``; combined they are the layer's integer
    again, at most ``A * G * sum_i S_i``.

    Args:
        shape: ``(rows, columns)``.
        code: a code without parities.
        axis: direction of the streams.
        digits: 1 (a8) or 2 (a15).

    Raises:
        LiftError: the code has parities, K is over `MAX_INNER`, where int32 sums of the one-bit
            product could overflow, lifted activations need more than `MAX_DIGITS` digits, or the
            layer's integers could exceed `MAX_COMBINED`. The message names the layer.
    """
    check_liftable(code)
    rows, columns = shape
    largest = LARGEST[digits]
    row_sums = np.abs(code.taps.astype(np.int64)).sum(axis=1)
    layer = f"a {rows}x{columns} layer in {code.name} on axis {axis}"
    if axis == "out":
        inner, base, operand, digit = columns, BASE, largest, BASE - 1
        count: int = digits
        widest = int(row_sums.max())
        projected, combined = digit * inner * widest, largest * inner * widest
    else:
        groups = stream_groups(columns, code)
        inner, base = groups * code.lifted, LIFTED_BASE
        operand = largest * _bit_sums(code)
        fitting = (n for n in range(1, MAX_DIGITS + 1) if operand <= digit_range(base, n)[1])
        count = next(fitting, 0)
        if not count:
            raise LiftError(
                f"{layer} lifts activations to as much as {operand}, over the "
                f"{digit_range(base, MAX_DIGITS)[1]} of {MAX_DIGITS} int8 digits; decode the layer"
            )
        digit = operand if count == 1 else base // 2
        projected = digit * inner
        combined = largest * groups * int(row_sums.sum())
    if inner > MAX_INNER:
        raise LiftError(
            f"{layer} has an inner dimension of {inner}, over {MAX_INNER}, where the int32 sums "
            "of the one-bit product could overflow; split the layer"
        )
    if combined > MAX_COMBINED:
        raise LiftError(
            f"{layer}, inner dimension {inner}, can sum to {combined}, over {MAX_COMBINED}, where "
            "its product with a scale is no longer exact in float64; split the layer"
        )
    return Bounds(inner, base, count, operand, digit, digit * inner, projected, combined)


def _bit_sums(code: LiftCode) -> int:
    """Largest sum of |taps| over all the windows that hold one bit."""
    of_feature = np.abs(code.taps.astype(np.int64)).sum(axis=0)
    padded = np.zeros(-(-len(of_feature) // code.lifted) * code.lifted, np.int64)
    padded[: len(of_feature)] = of_feature
    return int(padded.reshape(-1, code.lifted).sum(axis=0).max())
