"""What the kernels compile to, on record: ``python -m benchmarks.kernels``.

Compiles all of them, writes ``kernels.json`` beside this file and the table in ``docs/kernels.md``.
Tests compile the tightest again and fail where one got worse, or better without being recorded.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from algo.errors import LiftError
from algo.files import write_text
from gpu.build import all_jobs, build
from gpu.compiling import TARGETS
from gpu.job import KernelJob
from gpu.report import Record, document, read_report, write_report
from liftquant.console import err, progress
from liftquant.kernels_table import markdown

BASELINE = Path(__file__).parent / "kernels.json"
PAGE = Path(__file__).parent.parent / "docs" / "kernels.md"
START, END = "<!-- kernels: start -->\n", "<!-- kernels: end -->\n"


def tightest(record: Record, target: str, by_code: bool) -> list[KernelJob]:
    """Of every kernel what is launched for a single token, and what takes the most registers.

    Configurations that the record lacks are taken as well.

    Args:
        record: what the registers are read from.
        target: configurations for it.
        by_code: the most registers for every code instead of one.
    """
    registers = {_key(k): k["registers"] for k in record["kernels"] if k["target"] == target}
    chosen: dict[tuple[str, str], KernelJob] = {}
    most: dict[tuple[str, str], tuple[int, KernelJob]] = {}
    for job in all_jobs():
        if not job.suits(target):
            continue
        key = (job.kernel, job.code)
        if job.batch_one or key not in registers:
            chosen[key] = job
            continue
        group = (job.function.fn.__qualname__, job.code if by_code else "")
        taken = registers[key]
        if group not in most or taken > most[group][0]:
            most[group] = (taken, job)
    chosen |= {(job.kernel, job.code): job for _, job in most.values()}
    return list(chosen.values())


def part(record: Record, jobs: Mapping[str, Sequence[KernelJob]]) -> Record:
    """The figures of some jobs, which are listed by target."""
    keys = {(target, job.kernel, job.code) for target in jobs for job in jobs[target]}
    kernels = [k for k in record["kernels"] if (k["target"], *_key(k)) in keys]
    gpus = {target: record["gpus"][target] for target in jobs}
    return {**record, "gpus": gpus, "kernels": kernels}


def _key(kernel: Record) -> tuple[str, str]:
    return kernel["kernel"], kernel["code"]


def page_with(record: Record, page: str) -> str:
    """`page` with the table between its marks made anew.

    Raises:
        LiftError: it lacks the marks.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise LiftError(f"{PAGE} lacks the lines {START.strip()!r} and {END.strip()!r}")
    shown = part(record, {target: tightest(record, target, False) for target in TARGETS})
    return f"{before}{start}{markdown(shown)}{end}{after}"


def recorded() -> Record:
    """The record."""
    return read_report(BASELINE)


def main() -> None:
    """Write the record and the table."""
    jobs = all_jobs()
    total = sum(job.suits(target) for target in TARGETS for job in jobs)
    with progress("compiling", total) as meter:
        record = document(build(jobs=jobs, done=lambda r: meter.advance(1, r.kernel)))
    page = page_with(record, PAGE.read_text(encoding="utf-8"))
    write_report(BASELINE, record)
    write_text(PAGE, page)
    err.print(f"{BASELINE}: {len(record['kernels'])} kernels", soft_wrap=True)


if __name__ == "__main__":
    main()
