"""From machine code to a report: texts in place of the compiler."""

import pytest

from gpu import compiling
from gpu.compiling import Compiled, Costs
from gpu.gpus import gpu_for
from gpu.job import KernelJob, Work
from tests.gpu.test_gpu_machine_code import sass

NESTED = (
    "MOV R1, R2",
    ".L_x_0:",
    *["LOP3.LUT R1, R2, R3, RZ, 0xc0, !PT"] * 5,
    ".L_x_1:",
    "LDS R4, [R5]",
    "@P1 BRA `(.L_x_1)",
    "STG.E.U16 desc[UR4][R2.64], R8",
    "@P0 BRA `(.L_x_0)",
    "EXIT",
)
PARITIES = (
    *["LOP3.LUT R1, R2, R3, RZ, 0xc0, !PT"] * 5,
    ".L_x_1:",
    "LDS R4, [R5]",
    "@P1 BRA `(.L_x_1)",
    "STG.E.U16 desc[UR4][R2.64], R8",
    "EXIT",
)


@pytest.fixture
def report_of(monkeypatch):
    """The report on a listing for sm_90, of four warps."""

    def report(lines, work, batch_one=False):
        compiled = Compiled(b"", sass(*lines), Costs(40, 0, 0), 1024, 4)
        monkeypatch.setattr(compiling, "machine_code_of", lambda job, target: compiled)
        monkeypatch.setattr(compiling, "text_bytes", lambda elf: 2000)
        job = KernelJob("k", "any", None, {}, {}, (), {}, work, batch_one)
        return compiling.compile_one(job, "sm_90")

    return report


def test_nested_loops_that_turn_nobody_knows_how_often_leave_no_figure(report_of):
    report = report_of(NESTED, Work("weight", 128, stored_bytes=256))
    assert (report.loop, report.nested, report.issued) == (True, 1, 9)
    assert (report.unit, report.units, report.seen_in, report.per_unit) == ("weight", *[None] * 3)
    assert report.per_weight(2.4) is None


def test_nested_loops_count_as_often_as_the_job_says(report_of):
    report = report_of(NESTED, Work("weight", 128, stored_bytes=256, nested_trips=3))
    assert report.issued == 7 + 3 * 2
    assert (report.units, report.seen_in, report.per_unit) == (128, "stores", 13.0)
    assert report.per_weight(2.4) == 13.0  # a weight is a weight at any width


def test_a_loop_that_stores_nothing_is_not_the_loop_of_what_is_stored(report_of):
    report = report_of(PARITIES, Work("weight", 128, stored_bytes=256, nested_trips=2))
    assert (report.loop, report.nested, report.issued) == (False, 1, 7 + 2 * 2)
    assert report.per_unit == 11.0


def test_values_have_no_weight(report_of):
    report = report_of(PARITIES, Work("value", 128, stored_bytes=256, nested_trips=2))
    assert report.per_unit == 11.0
    assert report.per_weight(2.4) is None


@pytest.mark.parametrize(
    ("unit", "batch_one", "given"),
    [("bit", True, True), ("bit", False, False), ("weight", True, False)],
)
def test_the_share_of_the_memory_is_of_bits_at_batch_one(report_of, unit, batch_one, given):
    report = report_of(PARITIES, Work(unit, 128, nested_trips=1), batch_one)
    assert (report.hbm_share is not None) == given
    assert report.batch_one == batch_one
    if given:  # the loop of two instructions: two lane-instructions per bit
        assert report.seen_in == "source"
        h100 = gpu_for("sm_90")
        seconds_per_bit = 2 / (132 * 128 * 1.755e9)
        assert report.hbm_share == pytest.approx(seconds_per_bit * 8 * 3.35e12)
        assert h100.lanes_per_second == pytest.approx(132 * 128 * 1.755e9)


def test_the_names_of_the_gpus():
    assert {target: gpu_for(target).name for target in compiling.TARGETS} == {
        "sm_80": "A100 80GB SXM", "sm_89": "RTX 4090", "sm_90": "H100 SXM", "sm_100": "B200",
        "gfx942": "MI300X",
    }  # fmt: skip
    assert gpu_for("sm_70") is None
