"""The compile report as a table: on a terminal, and in Markdown."""

from typing import Any

from rich import box
from rich.table import Table

Record = dict[str, Any]

_HEADINGS = (
    "kernel", "target", "regs", "spills", "shared", "code", "tensor", "ALU", "mem", "other",
    "per unit", "2.4 bits", "of HBM",
)  # fmt: skip
_LEFT = ("kernel", "target")
_WIDE_ONLY = ("shared", "code", "tensor", "ALU", "mem", "other")
_MEMORY = ("global", "shared", "atomic")


def kernels_table(record: Record, wide: bool = True) -> Table:
    """A row for each kernel, code and target of `gpu.report.document`'s result.

    Args:
        record: the report.
        wide: whether all columns fit; without, those that only explain others are left out.
    """
    clocks = [_clock(target, gpu) for target, gpu in record["gpus"].items() if gpu]
    table = Table(
        title=f"kernels: {record['note']}", title_justify="left", box=box.SIMPLE_HEAD,
        caption=f"{_LEGEND}\nassumed: {'; '.join(clocks)}", caption_justify="left",
        padding=(0, 1, 0, 0),
    )  # fmt: skip
    shown = [i for i, heading in enumerate(_HEADINGS) if wide or heading not in _WIDE_ONLY]
    for i in shown:
        left = _HEADINGS[i] in _LEFT
        table.add_column(_HEADINGS[i], justify="left" if left else "right", overflow="fold")
    for row in rows(record):
        table.add_row(*(row[i] for i in shown))
    return table


_LEGEND = (
    "shared, code: bytes. tensor, ALU, mem, other: instructions of a warp per trip of the steady "
    "loop; * of the whole body. per unit: lane-instructions per bit (b), weight (w) or value (v); "
    "2.4 bits: per weight of 2.4 bits; of HBM: time to issue them at batch 1 over time to read the "
    "bits."
)


def _clock(target: str, gpu: Record) -> str:
    return f"{target} {gpu['name']} {gpu['clock_ghz']:g} GHz {gpu['bandwidth_tbs']:g} TB/s"


def markdown(record: Record) -> str:
    """The same rows in Markdown."""
    lines = [_HEADINGS, ["---" if h in _LEFT else "---:" for h in _HEADINGS], *rows(record)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def rows(record: Record) -> list[list[str]]:
    """The cells, in the order of the report."""
    return [_row(kernel) for kernel in record["kernels"]]


def _row(kernel: Record) -> list[str]:
    counts: dict[str, int] = kernel["instructions"]
    memory = sum(counts.get(name, 0) for name in _MEMORY)
    alu = counts.get("alu", 0)
    tensor = counts.get("tensor", 0)
    per_unit, share = kernel["per_unit"], kernel["hbm_share"]
    at_bits = kernel.get("per_weight", {}).get("2.4")
    return [
        kernel["kernel"] + ("" if kernel["code"] == "any" else f" {kernel['code']}"),
        kernel["target"],
        str(kernel["registers"]),
        str(kernel["spills"]),
        f"{kernel['shared_bytes']:,}",
        f"{kernel['code_bytes']:,}",
        str(tensor),
        str(alu),
        str(memory),
        str(sum(counts.values()) - tensor - alu - memory) + ("" if kernel["loop"] else " *"),
        "" if per_unit is None else f"{per_unit:.3g} {kernel['unit'][0]}",
        "" if at_bits is None else f"{at_bits:.2f}",
        "" if share is None else f"{share:.2f}",
    ]
