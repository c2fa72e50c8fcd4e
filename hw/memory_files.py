"""Verilog whose large memories are filled from files: yosys takes minutes to read long lists."""

import re
from pathlib import Path

_LONG = 1024  # words; shorter lists stay where they are
_LIST = re.compile(r"initial begin\n((?:\s*(\S+) ?\[\d+\] = \d+'h[0-9a-f]+;\n)+)\s*end\n")
_WORD = re.compile(r"\[(\d+)\] = \d+'h([0-9a-f]+);")


def write_with_files(verilog: str, path: Path) -> None:
    """Write a design, the contents of its large memories in files beside it (``$readmemh``).

    Only lists that begin at word 0 and leave none out are moved; the design stays the same.
    """

    def moved(found: re.Match[str]) -> str:
        words = _WORD.findall(found[1])
        if len(words) < _LONG or [int(at) for at, _ in words] != [*range(len(words))]:
            return found[0]
        file = path.with_name(f"{path.stem}_{found.start()}.hex")
        file.write_text("".join(f"{word}\n" for _, word in words), encoding="ascii")
        return f'initial $readmemh("{file.name}", {found[2]} );\n'

    path.write_text(_LIST.sub(moved, verilog), encoding="utf-8")
