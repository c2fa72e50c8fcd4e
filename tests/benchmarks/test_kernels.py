"""The kernels as compiled now: the gates, and the record against them.

Every kernel is compiled for every target and one code of each kind. Workers share what one of them
compiled.
"""

import fcntl
import functools
import os

import pytest

from algo.errors import LiftError
from benchmarks import kernels
from gpu.build import all_jobs, build
from gpu.compiling import TARGETS, versions
from gpu.gpus import gpu_for
from gpu.report import document, read_report, unrecorded, worse, write_report

MAX_PER_WEIGHT = 1.6  # lane-instructions at batch 1 and 2.4 bits, sm_90
MAX_HBM_SHARE = 0.62  # of the time to read the bits at 3.35 TB/s


@pytest.fixture(scope="session", params=TARGETS)
def fresh(request, tmp_path_factory):
    """The report of one target, compiled once per run whatever the number of workers."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path = folder / f"kernels-{request.param}.json"
    with (folder / f"kernels-{request.param}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            record = document(build([request.param], kernels.representative_jobs()))
            write_report(path, record)
    return read_report(path)


@functools.cache
def recorded():
    return kernels.recorded()


def of_batch_one(record):
    """The one-bit products that are launched for a single token."""
    found = [k for k in record["kernels"] if k["batch_one"] and k["unit"] == "bit"]
    assert found
    return found


def test_nothing_spills(fresh):
    (target,) = fresh["gpus"]
    assert len(fresh["kernels"]) == sum(j.suits(target) for j in kernels.representative_jobs())
    assert [kernel for kernel in fresh["kernels"] if kernel["spills"]] == []


def test_every_opcode_is_known(fresh):
    assert {name for kernel in fresh["kernels"] for name in kernel["unknown"]} == set()


def test_the_one_bit_product_has_a_loop_whose_work_is_seen(fresh):
    for kernel in of_batch_one(fresh):
        assert kernel["loop"]
        assert kernel["seen_in"] in ("tensor", "loads")


@pytest.mark.parametrize("fresh", ["sm_90"], indirect=True)
def test_the_one_bit_product_at_batch_one_is_below_the_gate(fresh):
    h100 = gpu_for("sm_90")
    assert (h100.units, h100.clock_ghz, h100.bandwidth_tbs) == (132, 1.755, 3.35)
    for kernel in of_batch_one(fresh):
        print(kernel["kernel"], kernel["per_weight"], kernel["hbm_share"])
        assert kernel["per_weight"]["2.4"] <= MAX_PER_WEIGHT
        assert kernel["hbm_share"] <= MAX_HBM_SHARE


def test_the_record_is_what_is_compiled_now(fresh):
    """Nothing worse, and nothing better that was not recorded."""
    if recorded()["versions"] != versions():
        pytest.skip(f"recorded with {recorded()['versions']}, here are {versions()}")
    part = kernels.representative_part(recorded())
    part["gpus"] = fresh["gpus"]
    assert worse(fresh, part) == []
    part["kernels"] = [k for k in part["kernels"] if k["target"] in fresh["gpus"]]
    assert worse(part, fresh) == [], "better than recorded: run python -m benchmarks.kernels"


def test_a_change_of_the_record_is_seen(fresh):
    """Control: what the comparison above catches."""
    changed = {**fresh, "kernels": [dict(k) for k in fresh["kernels"]]}
    changed["kernels"][0]["registers"] *= 2
    assert len(worse(changed, fresh)) == 1
    assert worse(fresh, changed) == []
    assert len(worse({**fresh, "kernels": fresh["kernels"][1:]}, fresh)) == 1


def test_the_record_holds_every_kernel_for_every_target():
    found = {(k["kernel"], k["code"], k["target"]) for k in recorded()["kernels"]}
    assert found == {(j.kernel, j.code, t) for j in all_jobs() for t in TARGETS if j.suits(t)}
    assert unrecorded(recorded(), recorded()) == []


def test_nothing_on_record_spills():
    assert [k for k in recorded()["kernels"] if k["spills"]] == []


def test_every_kind_of_code_is_compiled_again():
    codes = {job.code for job in kernels.representative_jobs()}
    assert codes == set(kernels.CODES)
    names = {job.kernel for job in all_jobs()}
    assert {job.kernel for job in kernels.representative_jobs()} == names


def test_the_page_shows_the_record():
    page = kernels.PAGE.read_text(encoding="utf-8")
    assert kernels.page_with(recorded(), page) == page
    part = kernels.representative_part(recorded())
    assert page.count("\n| bitmm-") == sum(
        k["kernel"].startswith("bitmm-") for k in part["kernels"]
    )


def test_a_page_without_marks_is_refused():
    with pytest.raises(LiftError, match="kernels: start"):
        kernels.page_with(recorded(), "nothing")
