"""Part of a VCD file: the time around an event."""

from collections.abc import Iterator
from pathlib import Path

from algo.files import written_aside


def cut_vcd(source: Path, target: Path, first: int, last: int) -> None:
    """Write what happens from time `first` to time `last`, in the file's own unit.

    The values that hold at `first` come before it, so that every signal has one. `source` and
    `target` may be the same file.
    """
    with (
        source.open(encoding="ascii", errors="replace") as lines,
        written_aside(target) as aside,
        aside.open("w", encoding="ascii", errors="replace") as out,
    ):
        for line in lines:
            out.write(line)
            if line.startswith("$enddefinitions"):
                break
        out.writelines(f"{line}\n" for line in _window(lines, first, last))


def _window(lines: Iterator[str], first: int, last: int) -> Iterator[str]:
    held: dict[str, str] = {}  # the latest change of every signal before `first`
    started = False
    time = 0
    for line in map(str.strip, lines):
        if line.startswith("#"):
            time = int(line[1:])
            if time > last:
                break
            if time >= first and not started:
                yield from _values(first, held)
                started = True
                if time == first:
                    continue
            if started:
                yield line
        elif line and not line.startswith("$"):
            if started:
                yield line
            else:
                held[_signal(line)] = line
    if not started:
        yield from _values(first, held)


def _values(time: int, held: dict[str, str]) -> Iterator[str]:
    yield f"#{time}"
    yield "$dumpvars"
    yield from held.values()
    yield "$end"


def _signal(line: str) -> str:
    """The identifier of a value change: after a blank for vectors and reals, else after a digit."""
    return line.rpartition(" ")[2] if line[0] in "bBrRsS" else line[1:]
