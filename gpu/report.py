"""The compile report as a file, and what got worse since one was written."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import UnionType
from typing import Any

from algo.errors import LiftError
from algo.files import read_json, write_text
from gpu.compiling import NOTE, TARGETS, KernelReport, versions
from gpu.gpus import gpu_for

FORMAT = 1
BITS = (2.0, 2.4, 3.0)
REGISTERS_MARGIN = 0.10  # registers come in steps of 8 where it matters, and move with the compiler
PER_UNIT_MARGIN = 0.02

Record = dict[str, Any]

_COMPARED: dict[str, type | UnionType] = {
    "kernel": str,
    "code": str,
    "target": str,
    "spills": int,
    "registers": int,
    "loop": bool,
    "unit": str | None,
    "per_unit": float | int | None,
}


def document(reports: Sequence[KernelReport]) -> Record:
    """The report as JSON: sorted, without a date, the same from run to run."""
    targets = {report.target for report in reports}
    return {
        "format": FORMAT,
        "note": NOTE,
        "versions": versions(),
        "gpus": {target: _assumed(target) for target in TARGETS if target in targets},
        "kernels": [_record(report) for report in sorted(reports, key=_order)],
    }


def _order(report: KernelReport) -> tuple[str, str, int]:
    return report.kernel, report.code, list(TARGETS).index(report.target)


def _assumed(target: str) -> Record | None:
    gpu = gpu_for(target)
    if gpu is None:
        return None
    return {
        "name": gpu.name,
        "units": gpu.units,
        "issue_lanes": gpu.issue_lanes,
        "clock_ghz": gpu.clock_ghz,
        "bandwidth_tbs": gpu.bandwidth_tbs,
    }


def _record(report: KernelReport) -> Record:
    record = asdict(report)
    del record["note"]  # once for all
    record["unknown"] = list(report.unknown)
    for name in ("per_unit", "hbm_share"):
        record[name] = _rounded(record[name])
    if report.per_unit is not None and report.unit == "bit":
        record["per_weight"] = {f"{b:.1f}": _rounded(report.per_weight(b)) for b in BITS}
    return record


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def write_report(path: Path, record: Record) -> None:
    """Write `document`'s result, one kernel to a line, so that a change reads as one."""
    head = {name: value for name, value in record.items() if name != "kernels"}
    lines = ",\n".join(f"    {json.dumps(kernel)}" for kernel in record["kernels"])
    text = json.dumps(head, indent=2).removesuffix("\n}")
    write_text(path, f'{text},\n  "kernels": [\n{lines}\n  ]\n}}\n')


def read_report(path: Path) -> Record:
    """What `write_report` wrote.

    Raises:
        LiftError: the file is missing, or is none of ours.
    """
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise LiftError(f"{path} is no compile report of format {FORMAT}; write one with --write")
    kernels, made_with = record.get("kernels"), record.get("versions")
    known = isinstance(kernels, list) and all(_is_kernel(kernel) for kernel in kernels)
    if not known or not isinstance(made_with, dict):
        raise LiftError(f"{path} lacks figures of kernels; write one with --write")
    return record


def _is_kernel(kernel: object) -> bool:
    """Whether an entry holds what `worse` reads."""
    return isinstance(kernel, dict) and all(
        isinstance(kernel.get(name, ...), kinds) for name, kinds in _COMPARED.items()
    )


def worse(now: Record, baseline: Record) -> list[str]:
    """What got worse, a line for each figure and each kernel that is missing; empty if nothing.

    Targets that `now` was not compiled for are left out. Of registers 10 percent more are let pass,
    of lane-instructions per unit 2 percent; spills none.
    """
    found = {_key(kernel): kernel for kernel in now["kernels"]}
    lines = []
    for before in baseline["kernels"]:
        if before["target"] not in now["gpus"]:
            continue
        after = found.get(_key(before))
        if after is None:
            lines.append(f"{_name(before)}: missing")
            continue
        lines += [f"{_name(before)}: {change}" for change in _changes(before, after)]
    return lines


def _changes(before: Record, after: Record) -> list[str]:
    lines = []
    for name, margin in (
        ("spills", 0.0), ("registers", REGISTERS_MARGIN), ("per_unit", PER_UNIT_MARGIN)
    ):  # fmt: skip
        was, now = before[name], after[name]
        if was is None:
            continue
        if now is None or now > was * (1 + margin):
            said = {"per_unit": f"lane-instructions per {before['unit']}"}.get(name, name)
            lines.append(f"{said} {was:g} before, {'unknown' if now is None else f'{now:g}'} now")
    if before["loop"] and not after["loop"]:
        lines.append("a loop before, none found now")
    return lines


def unrecorded(now: Record, baseline: Record) -> list[str]:
    """Kernels that the baseline does not hold."""
    known = {_key(kernel) for kernel in baseline["kernels"]}
    return [_name(kernel) for kernel in now["kernels"] if _key(kernel) not in known]


def _key(kernel: Record) -> tuple[str, str, str]:
    return kernel["kernel"], kernel["code"], kernel["target"]


def _name(kernel: Record) -> str:
    return f"{kernel['kernel']} ({kernel['code']}) for {kernel['target']}"
