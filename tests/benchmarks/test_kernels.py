"""The kernels as compiled now: the gates, and the record against them.

Compiled again for every target: the one-bit product in every tile, of other kernels what a single
token takes, and for every code what takes the most registers. Workers share what one compiled.
"""

import fcntl
import functools
import os

import pytest

from algo.errors import LiftError
from benchmarks import kernels
from gpu import bitmm
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
            write_report(path, document(build([request.param], jobs(request.param))))
    return read_report(path)


@functools.cache
def jobs(target):
    """What is compiled again for a target."""
    chosen = kernels.tightest(recorded(), target, by_code=True)
    names = {(job.kernel, job.code) for job in chosen}
    every = [job for job in bitmm.jobs() if job.suits(target)]
    return [*chosen, *(job for job in every if (job.kernel, job.code) not in names)]


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
    assert len(fresh["kernels"]) == len(jobs(target))
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
    (target,) = fresh["gpus"]
    before = kernels.part(recorded(), {target: jobs(target)})
    assert unrecorded(fresh, before) == []
    assert worse(fresh, before) == []
    assert worse(before, fresh) == [], "better than recorded: run python -m benchmarks.kernels"


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


def test_nothing_on_record_spills():
    assert [k for k in recorded()["kernels"] if k["spills"]] == []


def test_the_tightest_of_each_kernel_are_compiled_again():
    for target in TARGETS:
        every = [job for job in all_jobs() if job.suits(target)]
        chosen = kernels.tightest(recorded(), target, by_code=True)
        assert {j.function for j in chosen} == {j.function for j in every}
        assert {(j.function, j.code) for j in chosen} == {(j.function, j.code) for j in every}
        assert all(job in chosen for job in every if job.batch_one)
        found = kernels.part(recorded(), {target: every})["kernels"]
        most = max(kernel["registers"] for kernel in found)
        shown = kernels.part(recorded(), {target: chosen})["kernels"]
        assert max(kernel["registers"] for kernel in shown) == most


def test_what_is_not_on_record_is_compiled():
    nothing = {**recorded(), "kernels": []}
    every = [job for job in all_jobs() if job.suits("sm_90")]
    assert len(kernels.tightest(nothing, "sm_90", by_code=False)) == len(every)
    assert len(kernels.tightest(recorded(), "sm_90", by_code=False)) < len(every)


def test_the_page_shows_the_record():
    page = kernels.PAGE.read_text(encoding="utf-8")
    assert kernels.page_with(recorded(), page) == page
    table = page.partition(kernels.START)[2].partition(kernels.END)[0].splitlines()[2:]
    shown = sum(len(kernels.tightest(recorded(), t, by_code=False)) for t in TARGETS)
    assert len(table) == shown
    other = {**recorded(), "kernels": [dict(k, registers=1) for k in recorded()["kernels"]]}
    assert kernels.page_with(other, page) != page


def test_a_page_without_marks_is_refused():
    with pytest.raises(LiftError, match="kernels: start"):
        kernels.page_with(recorded(), "nothing")
