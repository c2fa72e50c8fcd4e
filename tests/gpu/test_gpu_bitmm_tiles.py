"""The one-bit product in every tile and every split of K, against plain integer numpy."""

import dataclasses
import itertools
import re
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.errors import LiftError
from algo.packing import pack_bits
from gpu import bitmm, compiling
from gpu.bitmm import digit_planes, launch, multiply, packed
from gpu.interpret import interpreter
from gpu.tiles import (
    AMD_TILES,
    GROUP_TILES,
    NARROW,
    NVIDIA_TILES,
    SINGLE,
    WIDE,
    Tile,
)

SEED = 23
TILES = list(dict.fromkeys(NVIDIA_TILES + GROUP_TILES + AMD_TILES))
ODD = (1, 3, 17, 576, 1536, 4099)


def oracle(bits, digits):
    return (2 * bits.astype(np.int64) - 1) @ digits.astype(np.int64)


def problem(rows, inner, columns):
    print("seed", SEED)
    rng = np.random.default_rng([SEED, rows, inner, columns])
    bits = rng.integers(0, 2, (rows, inner), dtype=np.uint8)
    return bits, rng.integers(-128, 128, (inner, columns)).astype(np.int8)


def product(bits, digits, tile, splits=1, checked=False):
    words = torch.from_numpy(pack_bits(bits).view(np.int32))
    with interpreter(checked) as run:
        return launch(run, words, torch.from_numpy(digits), tile, splits).numpy()


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_every_tile(tile):
    """More rows and columns than a program's, and K no whole number of steps."""
    bits, digits = problem(tile.rows + 3, 8 * tile.inner + 77, tile.columns + 1)
    assert np.array_equal(product(bits, digits, tile, splits=2), oracle(bits, digits))


@pytest.mark.parametrize(
    ("rows", "inner"), [case for case in itertools.product(ODD, ODD) if min(case) < 500]
)
def test_odd_rows_and_depths(rows, inner):
    bits, digits = problem(rows, inner, 3)
    assert np.array_equal(product(bits, digits, SINGLE), oracle(bits, digits))


@pytest.mark.parametrize(("rows", "inner"), [(576, 1536), (1536, 576), (1536, 4099), (4099, 4099)])
def test_rows_and_depths_of_models(rows, inner):
    bits, digits = problem(rows, inner, 2)
    assert np.array_equal(product(bits, digits, SINGLE, splits=3), oracle(bits, digits))


@pytest.mark.parametrize("columns", range(1, 65))
def test_one_to_64_columns(columns):
    bits, digits = problem(17, 99, columns)
    tile = NVIDIA_TILES[columns % len(NVIDIA_TILES)]
    assert np.array_equal(product(bits, digits, tile), oracle(bits, digits))


@pytest.mark.parametrize("splits", range(1, 8))
@pytest.mark.parametrize("inner", [1, 1025, 4099])  # 1, 5 and 17 steps of WIDE
def test_any_split(inner, splits):
    bits, digits = problem(17, inner, 5)
    assert np.array_equal(product(bits, digits, WIDE, splits), oracle(bits, digits))


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("digit", [-128, -127, 0, 127])
@pytest.mark.parametrize("bit", [0, 1])
def test_extremes_do_not_overflow(bit, digit, splits):
    bits = np.full((3, 1111), bit, np.uint8)
    digits = np.full((1111, 2), digit, np.int8)
    want = np.full((3, 2), (2 * bit - 1) * digit * 1111)
    assert np.array_equal(product(bits, digits, NARROW, splits, checked=True), want)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 70),
    inner=st.integers(1, 3000),
    columns=st.integers(1, 20),
    tile=st.sampled_from(TILES),
    splits=st.integers(1, 9),
)
def test_neither_tile_nor_split_shows(seed, rows, inner, columns, tile, splits):
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (rows, inner), dtype=np.uint8)
    digits = rng.integers(-128, 128, (inner, columns)).astype(np.int8)
    assert np.array_equal(product(bits, digits, tile, splits), oracle(bits, digits))


class Spy:
    """A `run` that keeps what the kernel is launched with."""

    def __init__(self, run):
        self.run, self.grid, self.options = run, None, {}

    def __call__(self, kernel):
        kernel = self.run(kernel)

        class Launched:
            def __getitem__(_, grid):
                self.grid = grid
                return lambda *a, **options: (
                    self.options.update(options),
                    kernel[grid](*a, **options),
                )

        return Launched()


@pytest.mark.parametrize(
    ("splits", "parts"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (6, 5), (100, 5)]
)
def test_no_part_is_empty_and_one_part_is_stored(splits, parts):
    bits, digits = problem(65, 1025, 9)
    words = torch.from_numpy(pack_bits(bits).view(np.int32))
    with interpreter(checked=False) as run:
        spy = Spy(run)
        launch(spy, words, torch.from_numpy(digits), WIDE, splits)
    assert spy.grid == (2, parts)
    assert spy.options["SPLIT"] == (parts > 1)
    assert spy.options["PACKED"] is False


def padded_rows(words):
    """int8, rows of whole units of 16 bytes."""
    units = -(-words.shape[1] // 4)
    padded = torch.zeros((len(words), 4 * units), dtype=torch.int32)
    padded[:, : words.shape[1]] = words.view(torch.int32)
    return padded.view(torch.int8)


def test_rows_any_distance_apart_and_planes_wider_than_needed():
    bits, digits = problem(5, 300, 2)
    rows = padded_rows(torch.from_numpy(pack_bits(bits)))
    planes, sums = digit_planes(torch.from_numpy(digits), 512, NARROW)
    want = oracle(bits, digits)
    apart = torch.full((10, 100), -1, dtype=torch.int8)[::2, : rows.shape[1]]
    apart.copy_(rows)
    others = torch.ones((16, *planes.shape[1:]), dtype=torch.int8)[::2]
    others.copy_(planes)
    with interpreter(checked=True) as run:
        assert np.array_equal(multiply(run, rows, planes, sums, 2, SINGLE).numpy(), want)
        assert np.array_equal(multiply(run, apart, planes, sums, 2, SINGLE).numpy(), want)
        assert np.array_equal(multiply(run, rows, others, sums, 2, SINGLE).numpy(), want)
        assert np.array_equal(multiply(run, rows, planes, sums, 1, SINGLE).numpy(), want[:, :1])
        spread = torch.ones((8, 2 * planes.shape[1], planes.shape[2]), dtype=torch.int8)[:, ::2]
        spread.copy_(planes)
        assert np.array_equal(multiply(run, rows, spread, sums, 2, SINGLE).numpy(), want)


def test_bytes_past_a_row_are_not_read():
    bits, digits = problem(5, 512, 2)
    longer = torch.full((5, 256), -1, dtype=torch.int8)
    longer[:, :64] = padded_rows(torch.from_numpy(pack_bits(bits)))
    planes, sums = digit_planes(torch.from_numpy(digits), 256, NARROW)
    planes[:, :, 64:] = (
        1  # where digits should be zero: they would be seen times a bit that is read
    )
    with interpreter(checked=True) as run:
        got = multiply(run, longer[:, :64], planes, sums, 2, SINGLE).numpy()
        assert np.array_equal(got, oracle(bits, digits))
        assert not np.array_equal(multiply(run, longer, planes, sums, 2, SINGLE).numpy(), got)


def test_more_than_indices_reach_is_refused_before_a_launch():
    bits = torch.empty((137_625, 1024), dtype=torch.int8, device="meta")
    planes = torch.empty((8, 16_384, 1024), dtype=torch.int8, device="meta")
    sums = torch.empty(16_384, dtype=torch.int32, device="meta")
    with pytest.raises(LiftError, match=r"137625 rows of 1024 bytes by 16384 columns is over"):
        multiply(lambda kernel: kernel, bits, planes, sums, 16_384, WIDE)
    with pytest.raises(LiftError, match="bits are on meta and planes on cpu"):
        multiply(lambda kernel: kernel, bits[:64], torch.zeros(8, 8, 1024, dtype=torch.int8),
                 torch.zeros(8, dtype=torch.int32), 1, SINGLE)  # fmt: skip


def test_wrong_arguments_are_named():
    rows = torch.zeros((2, 80), dtype=torch.int8)
    planes, sums = digit_planes(torch.zeros((640, 3), dtype=torch.int8), 80, NARROW)

    def tried(run, rows=rows, planes=planes, columns=3, tile=NARROW, splits=1):
        multiply(run, rows, planes, sums, columns, tile, splits)

    with interpreter(checked=False) as run:
        tried(run)
        tried(run, planes=planes[:, :3])
        with pytest.raises(
            LiftError, match=r"shape \(8, 16, 128\) for rows of 129 bytes; need .*256"
        ):
            tried(run, rows=torch.zeros((2, 129), dtype=torch.int8))
        with pytest.raises(LiftError, match=r"rows of 80 bytes; need \(8, N', 256 or more\)"):
            tried(run, tile=Tile(8, 8, 256, 1, 1))
        with pytest.raises(LiftError, match=r"planes of shape \(7, 16, 128\)"):
            tried(run, planes=planes[:7])
        with pytest.raises(LiftError, match="the last adjacent"):
            tried(run, planes=planes.mT.contiguous().mT)
        with pytest.raises(LiftError, match="bytes of a row are 2 apart"):
            tried(run, rows=torch.zeros((2, 80), dtype=torch.int8)[:, ::2])
        with pytest.raises(LiftError, match="17 columns of planes of 16; give 1 up to that"):
            tried(run, columns=17)
        with pytest.raises(LiftError, match="0 columns of planes of 16"):
            tried(run, columns=0)
        with pytest.raises(LiftError, match="0 splits of K; give 1 or more"):
            tried(run, splits=0)


@pytest.mark.parametrize(
    ("capability", "hip", "inline"),
    [((8, 0), None, True), ((8, 6), None, False), ((9, 0), None, False), ((8, 0), "6.3", False)],
)
def test_the_inline_form_is_for_sm_80(monkeypatch, capability, hip, inline):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert packed(torch.device("cuda")) is inline
    assert packed(torch.device("cpu")) is False


def test_jobs_are_what_is_launched():
    names = {job.kernel for job in bitmm.jobs()}
    assert len(names) == len(bitmm.jobs())
    for job in bitmm.jobs():
        assert job.function is bitmm.bitmm_kernel
        assert job.constants["PACKED"] == (job.targets == ("sm_80",))


def masks(job, target):
    """How often each mask is taken in the machine code."""
    assembly = compiling.machine_code_of(job, target).assembly
    constants = re.findall(r"LOP3\.LUT R\d+, R\d+(?:\.reuse)?, (0x[0-9a-f]+), RZ, 0xc0", assembly)
    return Counter(c for c in constants if len(set(bytes.fromhex(c[2:].zfill(8)))) == 1)


def test_the_inline_form_masks_what_the_plain_form_masks():
    """No interpreter runs it: its machine code for sm_80 against the plain form's for sm_89."""
    inline = next(job for job in bitmm.jobs() if job.constants["PACKED"])
    plain = dataclasses.replace(inline, constants={**inline.constants, "PACKED": False})
    want = masks(plain, "sm_89")
    assert [want[hex(0x01010101 << s)] for s in range(8)] == [32] * 8
    assert masks(inline, "sm_80") == want
    assert masks(plain, "sm_80") != want  # what the inline form is for
