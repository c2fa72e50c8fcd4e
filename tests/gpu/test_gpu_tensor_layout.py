"""Warps that repeat each other's tensor instructions."""

from fractions import Fraction

import pytest

from gpu.tensor_layout import repetition


def ttgir(layout, *dots):
    """Triton's intermediate code with one layout, and products of the given tiles."""
    lines = [
        f"#mma = #ttg.{layout}",
        "#shared = #ttg.swizzled_shared<{vec = 1, perPhase = 1, maxPhase = 1, order = [0]}>",
    ]
    for operation, tile in dots:
        lines.append(
            f"      %a = {operation} %x, %y, %z, inputPrecision = tf32 : tensor<9x9xi8, #ttg.dot_op"
            f"<{{opIdx = 0, parent = #mma}}>> * tensor<9x9xi8, #b> -> tensor<{tile}, #mma> loc(#l)"
        )
    return "\n".join(lines)


MFMA = "amd_mfma<{version = 3, warpsPerCTA = [2, 2], instrShape = [32, 32, 16]}>"
IMMA = (
    "nvidia_mma<{versionMajor = 2, versionMinor = 0, warpsPerCTA = [2, 2], instrShape = [16, 8]}>"
)
GMMA = "nvidia_mma<{versionMajor = 3, warpsPerCTA = [4, 1], instrShape = [16, 16, 32]}>"


@pytest.mark.parametrize(
    ("layout", "tile", "times"),
    [
        (MFMA, "64x64xi32", 1),
        (MFMA, "128x64xi32", 1),
        (MFMA, "64x32xi32", 2),
        (MFMA, "32x32xi32", 4),
        (MFMA, "32x16xi32", 8),
        (IMMA, "32x16xi32", 1),
        (IMMA, "32x8xi32", 2),
        (GMMA, "64x16xi32", 1),
        (GMMA, "64x256xi32", 1),
    ],
)
def test_tiles_smaller_than_what_the_warps_cover(layout, tile, times):
    operation = "ttng.warp_group_dot" if layout == GMMA else "tt.dot"
    assert repetition(ttgir(layout, (operation, tile))) == times


def test_most_products_count():
    loop, after = ("tt.dot", "64x32xi32"), ("tt.dot", "32x32xi32")
    assert repetition(ttgir(MFMA, loop, loop, after)) == 2


def test_without_tensor_instructions_nothing_is_repeated():
    assert repetition("") == Fraction(1)
    assert repetition(ttgir("blocked<{warpsPerCTA = [4, 1]}>", ("tt.dot", "1x1xi32"))) == 1
