"""The offline compile report."""

import dataclasses
import os
import struct

import pytest
import triton

from algo.errors import LiftError
from gpu import bitmm, build, compiling, decode


@pytest.mark.parametrize("target", build.TARGETS)
def test_every_kernel_compiles_without_spills(target):
    reports = build.build([target])
    names = [(r.kernel, r.code) for r in reports]
    assert names == [
        *[(f"decode-{t}", c) for c in decode.decode_codes() for t in ("int16", "float16")],
        ("bitmm-16", "any"),
        ("bitmm-32", "any"),
    ]
    for report in reports:
        print(report)
        assert report.target == target
        assert report.spills == 0
        assert 8 < report.registers <= 255 + 257 * (target == "gfx942")
        assert (report.scalar_registers > 0) == (target == "gfx942")
        assert 1000 < report.code_bytes < 64000
        assert report.shared_bytes <= 65536
        assert (report.shared_bytes > 0) == report.kernel.startswith("bitmm")
        assert report.warps == 4
        assert report.note == "compiled, not run on a GPU"


def test_spills_are_counted():
    """Control: a tile with more accumulators than registers is reported as spilling."""
    job = bitmm.jobs()[0]
    wide = {"ROWS": 128, "COLUMNS": 64, "INNER": 32}
    too_much = dataclasses.replace(job, constants=wide)
    assert build.compile_one(too_much, "sm_80").spills > 0
    assert build.compile_one(too_much, "gfx942").spills > 0


def test_what_is_compiled_is_what_is_interpreted():
    functions = {job.function for job in build.all_jobs()}
    assert functions == {decode.decode_kernel, bitmm.bitmm_kernel}


def test_the_code_matters_to_the_machine_code():
    jobs = {job.code: job for job in decode.jobs()}
    small = build.compile_one(jobs["LQ-12/5+9"], "sm_90")
    large = build.compile_one(jobs["LQ-24/10"], "sm_90")
    assert large.code_bytes > small.code_bytes


def test_nothing_is_left_behind(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    before = dict(os.environ)
    build.compile_one(decode.jobs()[0], "sm_80")
    assert list(tmp_path.iterdir()) == []
    assert dict(os.environ) == before
    assert triton.knobs.cache.dir == str(tmp_path)


def test_an_unknown_target_names_the_known_ones():
    with pytest.raises(LiftError, match="unknown target 'sm_7'; known targets are sm_80, sm_90, g"):
        build.build(["sm_80", "sm_7"])
    with pytest.raises(LiftError, match="no target given; known targets are sm_80"):
        build.build([])


def test_text_bytes_of_a_made_up_file():
    names = b"\0.text.k\0.data\0"
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 0x28, 64 + len(names))
    struct.pack_into("<HHH", header, 0x3A, 64, 4, 1)

    def section(name, offset, size):
        return struct.pack("<IIQQQQ", name, 1, 0, 0, offset, size).ljust(64, b"\0")

    table = section(0, 0, 0) + section(0, 64, len(names)) + section(1, 0, 700) + section(9, 0, 50)
    assert build.text_bytes(bytes(header) + names + table) == 700
    with pytest.raises(LiftError, match="not a 64-bit little-endian ELF"):
        build.text_bytes(b"MZ" + bytes(100))


def test_an_unreadable_report_is_an_error():
    with pytest.raises(LiftError, match="this Triton is not supported"):
        build._amd_costs("nothing here")
