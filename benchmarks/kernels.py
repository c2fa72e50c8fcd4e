"""What the kernels compile to, on record: ``python -m benchmarks.kernels``.

Compiles all of them, writes ``kernels.json`` beside this file and the table in ``docs/kernels.md``.
Tests compile a part again and fail where it got worse, or better without having been recorded.
"""

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
# one code of each kind of tables: one cell, three, crossing parities; others differ in their sizes
CODES = ("any", "LQ-24/10", "LQ-12/5+9", "LQ-11/5+13^16")


def representative(name: str) -> bool:
    """Whether what is compiled for the code of this name is compiled again by every test run."""
    return name in CODES


def representative_jobs() -> list[KernelJob]:
    """Every kernel, for one code of each kind."""
    return [job for job in all_jobs() if representative(job.code)]


def representative_part(record: Record) -> Record:
    """The figures of those."""
    kernels = [kernel for kernel in record["kernels"] if representative(kernel["code"])]
    return {**record, "kernels": kernels}


def page_with(record: Record, page: str) -> str:
    """`page` with the table between its marks made anew.

    Raises:
        LiftError: it lacks the marks.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise LiftError(f"{PAGE} lacks the lines {START.strip()!r} and {END.strip()!r}")
    return f"{before}{start}{markdown(representative_part(record))}{end}{after}"


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
