"""The compile report as a file, and what counts as worse."""

import copy
import dataclasses
import json

import pytest

from algo.errors import LiftError
from gpu import report
from gpu.compiling import KernelReport

NARROW = KernelReport(
    kernel="bitmm-16", code="any", target="sm_90", registers=100, scalar_registers=0, spills=0,
    shared_bytes=20480, code_bytes=9728, warps=4, loop=True, loops=1, nested=0,
    instructions={"tensor": 16, "alu": 92}, unknown=("FROB",), issued=108, unit="bit", units=32768,
    seen_in="tensor", per_unit=108 * 128 / 32768, batch_one=True, hbm_share=0.38125,
)  # fmt: skip
DECODE = dataclasses.replace(
    NARROW, kernel="decode", code="LQ-24/10", target="sm_80", unit="weight", per_unit=20.123456,
    batch_one=False, hbm_share=None,
)  # fmt: skip


@pytest.fixture
def record():
    return report.document([NARROW, DECODE, dataclasses.replace(NARROW, target="sm_80")])


def changed(record, **fields):
    """The record with fields of its first kernel (the one-bit product on sm_80) replaced."""
    other = copy.deepcopy(record)
    other["kernels"][0].update(fields)
    return other


def test_the_document_is_sorted_and_says_what_it_assumes(record):
    keys = [(k["kernel"], k["target"]) for k in record["kernels"]]
    assert keys == [("bitmm-16", "sm_80"), ("bitmm-16", "sm_90"), ("decode", "sm_80")]
    assert record["note"] == "compiled, not run on a GPU"
    assert set(record["versions"]) == {"triton", "ptxas-blackwell", "nvdisasm"}
    assert record["gpus"]["sm_90"] == {
        "name": "H100 SXM", "units": 132, "issue_lanes": 128, "clock_ghz": 1.755,
        "bandwidth_tbs": 3.35,
    }  # fmt: skip
    assert list(record["gpus"]) == ["sm_80", "sm_90"]
    first = record["kernels"][0]
    assert first["per_unit"] == 0.4219
    assert first["per_weight"] == {"2.0": 0.8438, "2.4": 1.0125, "3.0": 1.2656}
    assert record["kernels"][2]["per_unit"] == 20.1235
    assert "per_weight" not in record["kernels"][2]


def test_written_and_read_again_one_kernel_to_a_line(record, tmp_path):
    path = tmp_path / "kernels.json"
    report.write_report(path, record)
    assert report.read_report(path) == record
    lines = path.read_text().splitlines()
    assert sum("bitmm-16" in line for line in lines) == 2
    assert json.loads(next(line for line in lines if "decode" in line)) == record["kernels"][2]
    before = path.read_bytes()
    report.write_report(path, record)
    assert path.read_bytes() == before


def test_nothing_is_worse_than_itself(record):
    assert report.worse(record, record) == []
    assert report.unrecorded(record, record) == []


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"spills": 1}, "spills 0 before, 1 now"),
        ({"registers": 111}, "registers 100 before, 111 now"),
        ({"per_unit": 0.431}, "lane-instructions per bit 0.4219 before, 0.431 now"),
        ({"per_unit": None}, "lane-instructions per bit 0.4219 before, unknown now"),
        ({"loop": False}, "a loop before, none found now"),
    ],
)
def test_a_figure_that_got_worse_is_named(record, fields, line):
    assert report.worse(changed(record, **fields), record) == [f"bitmm-16 (any) for sm_80: {line}"]


@pytest.mark.parametrize(
    "fields", [{"registers": 110}, {"per_unit": 0.43}, {"per_unit": 0.1}, {"code_bytes": 99999}]
)
def test_within_the_margins_nothing_is_worse(record, fields):
    assert report.worse(changed(record, **fields), record) == []


def test_one_more_spill_is_worse(record):
    before, after = changed(record, spills=40), changed(record, spills=41)
    assert report.worse(after, before) == ["bitmm-16 (any) for sm_80: spills 40 before, 41 now"]


def test_a_figure_that_was_unknown_cannot_get_worse(record):
    before = changed(record, per_unit=None)
    assert report.worse(record, before) == []


def test_a_kernel_that_is_missing_is_named(record):
    fewer = {**record, "kernels": record["kernels"][1:]}
    assert report.worse(fewer, record) == ["bitmm-16 (any) for sm_80: missing"]
    assert report.unrecorded(record, fewer) == ["bitmm-16 (any) for sm_80"]


def test_a_target_that_was_not_compiled_is_not_missing(record):
    only = report.document([NARROW])
    assert report.worse(only, record) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist"),
        ("{", "is not valid JSON"),
        ("[]", "is no compile report of format 1; write one with --write"),
        ('{"format": 2, "kernels": []}', "is no compile report of format 1"),
        ('{"format": 1}', "lacks figures of kernels"),
        ('{"format": 1, "kernels": []}', "lacks figures of kernels"),
    ],
)
def test_a_file_that_is_no_report_is_refused(text, message, tmp_path):
    path = tmp_path / "kernels.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(LiftError, match=message):
        report.read_report(path)


@pytest.mark.parametrize("name", ["kernel", "target", "spills", "loop", "unit", "per_unit"])
@pytest.mark.parametrize("wrong", ["missing", []])
def test_an_entry_without_what_is_compared_is_refused(name, wrong, record, tmp_path):
    kernel = record["kernels"][1]
    if wrong == "missing":
        del kernel[name]
    else:
        kernel[name] = wrong
    report.write_report(tmp_path / "kernels.json", record)
    with pytest.raises(LiftError, match="lacks figures of kernels; write one with --write"):
        report.read_report(tmp_path / "kernels.json")
