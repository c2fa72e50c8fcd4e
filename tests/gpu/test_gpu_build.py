"""The offline compile report."""

import dataclasses
import os
import pathlib
import struct

import pytest
import triton

from algo.errors import LiftError
from gpu import bitmm, build, compiling, decode, gpus


@pytest.mark.parametrize("target", compiling.TARGETS)
def test_what_a_report_says(target):
    job = next(job for job in bitmm.jobs() if job.batch_one and job.suits(target))
    (report,) = build.build([target], [job])
    print(report)
    amd = target == "gfx942"
    assert (report.kernel, report.code, report.target) == (job.kernel, "any", target)
    assert 8 < report.registers <= 255 + 257 * amd
    assert (report.scalar_registers > 0) == amd
    assert 1000 < report.code_bytes < 64000
    assert 0 < report.shared_bytes <= 65536
    assert report.warps == job.options["num_warps"]
    assert report.note == "compiled, not run on a GPU"
    assert report.loop
    assert report.unknown == ()
    assert report.instructions["tensor"] >= 8
    assert report.units % job.work.per_trip == 0
    assert report.seen_in == "tensor"
    lanes = 64 if amd else 32
    assert report.per_unit == report.issued * report.warps * lanes / report.units
    assert report.per_weight(2.4) == 2.4 * report.per_unit
    gpu = gpus.gpu_for(target)
    slots = gpu.units * gpu.issue_lanes * gpu.clock_ghz * 1e9
    expected = (report.per_unit / slots) / (1 / 8 / (gpu.bandwidth_tbs * 1e12))
    assert report.hbm_share == pytest.approx(expected)


def test_a_job_is_compiled_for_its_targets_only():
    job = next(job for job in bitmm.jobs() if job.targets == ("sm_80",))
    assert build.build(["gfx942", "sm_90"], [job]) == []
    assert [report.target for report in build.build(["sm_90", "sm_80"], [job])] == ["sm_80"]
    anywhere = dataclasses.replace(job, targets=())
    assert all(anywhere.suits(target) for target in compiling.TARGETS)


def test_spills_are_counted():
    """Control: a tile with more accumulators than registers is reported as spilling."""
    job = bitmm.jobs()[0]
    wide = {"ROWS": 128, "COLUMNS": 64, "INNER": 32}
    too_much = dataclasses.replace(job, constants={**job.constants, **wide}, work=None)
    for target in ("sm_80", "gfx942"):
        report = compiling.compile_one(too_much, target)
        assert report.spills > 0
        assert (report.unit, report.per_unit, report.hbm_share) == (None, None, None)
        assert report.per_weight(2.4) is None


def test_a_wrong_word_on_the_work_is_found_in_the_machine_code():
    """Control: the units come from the machine code, not from the job."""
    job = bitmm.jobs()[0]
    right = compiling.compile_one(job, "sm_90")
    half = dataclasses.replace(job.work, per_trip=job.work.per_trip // 2)
    assert compiling.compile_one(dataclasses.replace(job, work=half), "sm_90") == right
    double = dataclasses.replace(job.work, per_trip=job.work.per_trip * 2)
    with pytest.raises(LiftError, match=rf"{job.kernel} \(any\) for sm_90: .* 0\.5 trips"):
        compiling.compile_one(dataclasses.replace(job, work=double), "sm_90")


def test_unrolling_does_not_change_the_units_of_a_weight():
    """The same kernel with twice the bytes of K per step does twice the work per trip."""
    job = bitmm.jobs()[0]
    inner = job.constants["INNER"]
    longer = dataclasses.replace(
        job,
        constants={**job.constants, "INNER": 2 * inner},
        work=dataclasses.replace(job.work, per_trip=2 * job.work.per_trip),
    )
    short, long = (compiling.compile_one(each, "sm_89") for each in (job, longer))
    assert long.units == 2 * short.units
    assert long.instructions["tensor"] == 2 * short.instructions["tensor"]
    assert long.per_unit == pytest.approx(short.per_unit, rel=0.2)


def test_every_module_with_kernels_is_in_the_list():
    with_jobs = {
        f"gpu.{path.stem}"
        for path in pathlib.Path(build.__file__).parent.glob("*.py")
        if "\ndef jobs(" in path.read_text()
    }
    assert set(build.MODULES) == with_jobs


def test_two_jobs_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(build, "MODULES", ("gpu.bitmm", "gpu.bitmm"))
    with pytest.raises(LiftError, match=r"two jobs are called 'bitmm-\S+ any'; give each"):
        build.all_jobs()


def test_what_is_compiled_is_what_is_interpreted():
    functions = {job.function for job in build.all_jobs()}
    assert {decode.decode_kernel, bitmm.bitmm_kernel} <= functions


def test_the_code_matters_to_the_machine_code():
    jobs = {job.code: job for job in decode.jobs()}
    small = compiling.compile_one(jobs["LQ-12/5+9"], "sm_90")
    large = compiling.compile_one(jobs["LQ-24/10"], "sm_90")
    assert large.code_bytes > small.code_bytes


def test_nothing_is_left_behind(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    before = dict(os.environ)
    compiling.compile_one(decode.jobs()[0], "sm_80")
    assert list(tmp_path.iterdir()) == []
    assert dict(os.environ) == before
    assert triton.knobs.cache.dir == str(tmp_path)


def test_an_unknown_target_names_the_known_ones():
    with pytest.raises(
        LiftError, match="unknown target 'sm_7'; known targets are sm_80, sm_89, sm"
    ):
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
    assert compiling.text_bytes(bytes(header) + names + table) == 700
    with pytest.raises(LiftError, match="not a 64-bit little-endian ELF"):
        compiling.text_bytes(b"MZ" + bytes(100))


def test_an_unreadable_report_is_an_error():
    with pytest.raises(LiftError, match="this Triton is not supported"):
        compiling._amd_costs("nothing here")


def test_a_tool_without_a_version_is_an_error(monkeypatch):
    monkeypatch.setattr(compiling, "_run", lambda *arguments: "nothing")
    with pytest.raises(LiftError, match="no version in 'nothing'; this Triton is not supported"):
        compiling.versions()
